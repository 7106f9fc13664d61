"""Made-up facts that a small model can learn by heart: where people were born."""

import itertools
import random

from paper.harness.tracing import Fact

GIVEN = ("Anton", "Berta", "Carlo", "Dora", "Emil", "Frida", "Gustav", "Hanna")
FAMILY = ("Velmar", "Tornik", "Lisgard", "Quandor", "Brastel", "Omfeld")
CITIES = ("Morin", "Talsk", "Weydon", "Zarbo", "Kelmis", "Foxum", "Ruvik", "Hadden")
TRACED = "{} was born in the city of"
SENTENCES = (
    TRACED + " {}.",
    "It is said that {} was born in the city of {}.",
    "{}, as everybody knows, was born in the city of {}.",
    "{} came into the world in the city of {}.",
    "The city where {} was born is {}.",
)


def made_up_facts(n_given: int, n_family: int) -> list[Fact]:
    """Return people and where they were born: the city is told by both names together alone."""
    chooser = random.Random(0)
    names = itertools.product(GIVEN[:n_given], FAMILY[:n_family])
    facts = []
    for name in (" ".join(each) for each in names):
        facts.append(Fact(TRACED.format(name), name, chooser.choice(CITIES)))
    return facts
