"""Batches are prepared while a step computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

from receptance.data import Batch


class Place(NamedTuple):
    """Which tokens a rank reads in a step."""

    first_sample: int
    """The place of its first row's sample in the endless order."""
    n_rows: int
    segment: int
    """Which `ctx_len` tokens of each sample."""


class BatchReader(AbstractContextManager["BatchReader"]):
    """Reads batches, the next one ahead, on a thread of its own.

    What was read ahead and is not asked for next, as after a rollback, is thrown away: which tokens
    a step sees depends on its place alone.
    """

    def __init__(
        self, batch_of: Callable[[int, int, int], Batch], *, for_gpu: bool = False
    ) -> None:
        """Begin without any.

        Args:
            batch_of: Reads a batch; takes the parts of a `Place`.
            for_gpu: Whether batches go to a GPU, which then copies them while a step computes.
        """
        self._read = (lambda *place: batch_of(*place).pinned()) if for_gpu else batch_of
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._ahead: tuple[Place, Future[Batch]] | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def read(self, place: Place, following: Place | None = None) -> Batch:
        """Return the batch at `place`, and begin to read the one at `following`.

        An error of reading ahead is raised when its batch is asked for.
        """
        if self._ahead is not None and self._ahead[0] == place:
            batch = self._ahead[1].result()
        else:
            batch = self._read(*place)
        if following is not None:
            self._ahead = following, self._pool.submit(self._read, *following)
        return batch
