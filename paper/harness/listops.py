"""ListOps, by the published recipe: nested operations on digits, whose value is to be told.

Nangia & Bowman 2018 (arXiv:1804.06028) made it, and the Long Range Arena (Tay et al. 2021) made it
long: a node is a digit with a probability of 3/4, and else an operation of 2 to `max_args` nodes,
to a depth of `max_depth`; expressions of other lengths than wanted are drawn anew, and repeated
ones too.
"""

import random
import statistics
from typing import NamedTuple

OPERATION_SHARE = 0.25
MIN, MAX, MED, SUM_MOD, END = "[MIN", "[MAX", "[MED", "[SM", "]"
OPERATIONS = (MIN, MAX, MED, SUM_MOD)
WORDS = ("", *(str(digit) for digit in range(10)), *OPERATIONS, END)
"""The vocabulary; the first one fills what is shorter."""
IDS = {word: index for index, word in enumerate(WORDS)}
N_CLASSES = 10


class Shape(NamedTuple):
    """How long and deep expressions are; neither of the lengths itself is taken, as published."""

    above_length: int
    below_length: int
    max_depth: int = 10
    max_args: int = 10


PUBLISHED = Shape(500, 2000)


class Example(NamedTuple):
    """An expression and its value."""

    words: tuple[str, ...]
    value: int


def examples(n: int, shape: Shape, seed: int) -> list[Example]:
    """Return so many different expressions of a shape, in the order in which they were drawn."""
    draw = random.Random(seed)
    found: dict[tuple[str, ...], Example] = {}
    while len(found) < n:
        words: list[str] = []
        value = _draw(draw, shape, 1, words)
        if value is not None and shape.above_length < len(words):
            found.setdefault(tuple(words), Example(tuple(words), value))
    return list(found.values())


def apply(operation: str, values: list[int]) -> int:
    """Return the value of an operation; of an even number the median is rounded down."""
    if operation == MIN:
        return min(values)
    if operation == MAX:
        return max(values)
    if operation == MED:
        return int(statistics.median(values))
    return sum(values) % 10


def value_of(words: tuple[str, ...]) -> int:
    """Return the value of an expression, read from left to right."""
    opened: list[tuple[str, list[int]]] = [("", [])]
    for word in words:
        if word in OPERATIONS:
            opened.append((word, []))
        elif word == END:
            operation, values = opened.pop()
            opened[-1][1].append(apply(operation, values))
        else:
            opened[-1][1].append(int(word))
    ((_, (value,)),) = opened
    return value


def _draw(draw: random.Random, shape: Shape, depth: int, words: list[str]) -> int | None:
    """Append an expression to `words` and return its value; None once it is too long."""
    if len(words) >= shape.below_length:
        return None
    if depth >= shape.max_depth or draw.random() > OPERATION_SHARE:
        value = draw.randrange(10)
        words.append(str(value))
        return value if len(words) < shape.below_length else None
    operation = draw.choice(OPERATIONS)
    words.append(operation)
    values = []
    for _ in range(draw.randint(2, shape.max_args)):
        value = _draw(draw, shape, depth + 1, words)
        if value is None:
            return None
        values.append(value)
    words.append(END)
    return apply(operation, values) if len(words) < shape.below_length else None
