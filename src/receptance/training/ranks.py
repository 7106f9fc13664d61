"""The processes that train together: which of them this is, and what they tell each other."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of a run. As it is made without arguments, it is alone."""

    rank: int = 0
    """Its number in the run, from 0."""
    world_size: int = 1
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that prints, and writes what is written once."""
        return self.rank == 0

    def gather_objects(self, value: Any) -> list[Any]:
        """Return what each rank gave, in their order. JSON is what travels, so only that can."""
        return [value]

    def for_saving(self) -> "Ranks":
        """Return the same ranks for a thread of their own, in which a checkpoint is written."""
        return self


ALONE = Ranks()
