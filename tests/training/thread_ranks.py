"""Several ranks in one process, each a thread: they tell each other things as real ones do."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

from receptance.training.processes import Ranks

PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ThreadRanks(Ranks):
    """One of several threads that play the ranks of a run."""

    meeting: Barrier
    board: list[str] = field(default_factory=list)

    def gather_objects(self, value: Any) -> list[Any]:
        """Return what each thread gave, in the order of their ranks."""
        self.board[self.rank] = json.dumps(value)
        self.meeting.wait(PATIENCE_S)
        values = [json.loads(text) for text in self.board]
        self.meeting.wait(PATIENCE_S)
        return values

    def for_saving(self) -> "ThreadRanks":
        """Return the same ranks: nothing else is told while they save."""
        return self


def on_ranks(world_size: int, action: Callable[[Ranks], Any]) -> list[Any]:
    """Return what `action` gives on each of so many ranks, or raise what one of them raised."""
    meeting, board = Barrier(world_size), [""] * world_size
    ranks = [
        ThreadRanks(rank=rank, world_size=world_size, meeting=meeting, board=board)
        for rank in range(world_size)
    ]
    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(action, ranks))
