"""A thread beside the event loop for what one client can make take long: its grammar, its turns."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from receptance.errors import RequestError

T = TypeVar("T")

_SECONDS = 0.5  # about what one thing takes at most


class SideThread:
    """Does one thing after the other, of all keys in turn.

    So a key that sends a thousand of them waits for itself, and what needs no such thread, or has
    the threads that all share, does not wait at all.
    """

    def __init__(self, name: str, *, max_waiting: int) -> None:
        """Begin; the thread begins with the first thing.

        Args:
            name: Of the thread.
            max_waiting: How many things of one key there may be at once.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._max_waiting = max_waiting
        self._n_of: Counter[str] = Counter()
        self._turn_of: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._turn = asyncio.Lock()

    async def do(self, owner: str, work: Callable[[], T]) -> T:
        """Return what `work` does, once it is its turn.

        Args:
            owner: The key that it is done for.
            work: What is to be done; what it raises is raised here.

        Raises:
            RequestError: If too much of this key waits (429).
        """
        n_waiting = self._n_of[owner]
        if n_waiting >= self._max_waiting:
            raise RequestError(
                f"a key may have {self._max_waiting} grammars or conversations made at once, and "
                "has; ask again later",
                status=429,
                code="queue_full",
                retry_after=n_waiting * _SECONDS,
            )
        self._n_of[owner] += 1
        try:
            # Who has a turn of its key waits in line with the other keys, which are as many.
            async with self._turn_of[owner], self._turn:
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._n_of[owner] -= 1
            if not self._n_of[owner]:
                del self._n_of[owner], self._turn_of[owner]

    def close(self) -> None:
        """End the thread, after what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)
