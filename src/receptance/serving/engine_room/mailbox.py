"""The way from the engine's thread to the event loop: one wakeup, however much there is to say."""

import asyncio
import threading
from collections.abc import Callable
from itertools import chain

News = list[Callable[[], object]]
"""What is to be done on the event loop because of a step, in order."""


class Mailbox:
    """Carries news; a loop that does not come to read them makes who writes them wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_letters: int) -> None:
        """Begin empty.

        Args:
            loop: Where the news are carried out.
            max_letters: How many may lie unread.
        """
        self._loop = loop
        self._max_letters = max_letters
        self._letters: list[News] = []
        self._changed = threading.Condition()

    def post(self, news: News) -> bool:
        """Leave news of one step, from the engine's thread; wait if too many lie unread.

        Returns:
            Whether somebody is there to read them: not if the loop was closed.
        """
        with self._changed:
            while len(self._letters) >= self._max_letters and not self._loop.is_closed():
                self._changed.wait(0.1)
            self._letters.append(news)
            if len(self._letters) > 1:  # the loop knows
                return not self._loop.is_closed()
        try:
            self._loop.call_soon_threadsafe(self._read)
        except RuntimeError:
            return False
        return True

    def _read(self) -> None:
        with self._changed:
            letters, self._letters = self._letters, []
            self._changed.notify()
        for each in chain.from_iterable(letters):
            try:
                each()
            except Exception as error:  # noqa: BLE001 - the news of others are to be read, too
                context = {"message": "news of the engine could not be read", "exception": error}
                self._loop.call_exception_handler(context)
