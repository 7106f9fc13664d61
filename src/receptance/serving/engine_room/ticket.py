"""What a handler holds while the engine works for it: everything that comes, as it comes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from uuid import uuid4
from weakref import WeakMethod

from receptance.errors import RequestError
from receptance.inference import PromptRead, TokenLogprobs
from receptance.serving.engine_room.job import Finished, Piece
from receptance.serving.settings import Settings

_LOGPROB_BYTES = 64  # about what one token with its number takes in an answer


@dataclass
class _Pending:
    """What came of one text and was not taken yet."""

    text: list[str] = field(default_factory=list)
    tokens: list[TokenLogprobs] = field(default_factory=list)
    finished: Finished | None = None


class Ticket:
    """A job that was taken. It belongs to the event loop; `cancel` may be called anywhere.

    What the engine writes is gathered here until it is taken, so the engine waits for nobody; who
    begins to read pieces, and then is too slow, loses the job.
    """

    def __init__(
        self,
        n: int,
        settings: Settings,
        *,
        forget: Callable[["Ticket", RequestError, str], None],
    ) -> None:
        """Begin with nothing.

        Args:
            n: How many texts will come.
            settings: How pieces are gathered, and how much may wait.
            forget: Tells the engine that nobody wants the texts any more, and why: what is raised
                to who still waits for them, and a word to count it by. From any thread, and as
                often as one likes.
        """
        self.id = uuid4().hex
        self._n = n
        self._settings = settings
        self._forget = forget
        self._prompt: PromptRead | None = None
        self._read_at = 0.0
        self._prompt_known = asyncio.Event()
        self._pending: dict[int, _Pending] = {}
        self._pending_bytes = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._arrived = asyncio.Event()
        self._finished: dict[int, Finished] = {}
        self._over = asyncio.Event()
        self._error: RequestError | None = None
        self._is_whole = False
        self._is_piecewise = False
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants it any more, be it in the engine yet or not."""
        return self._is_cancelled

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: all texts are finished, or the job failed."""
        return self._over.is_set()

    @property
    def error(self) -> RequestError | None:
        """Why the job failed, if it did."""
        return self._error

    @property
    def read_at(self) -> float:
        """When the prompt was read, by `time.monotonic`, once `prompt` has returned."""
        return self._read_at

    async def prompt(self) -> PromptRead:
        """Return what is known of the prompt, once it was read.

        Raises:
            RequestError: If the job fails before.
        """
        await self._prompt_known.wait()
        if self._prompt is None:
            assert self._error is not None
            raise self._error
        return self._prompt

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Yield what comes of all texts, until all are finished; once, to one reader.

        The first piece comes at once, and later ones gather for `coalesce_seconds`. Who stops
        reading before the end cancels the job.

        Raises:
            RequestError: If the job fails, behind what came before.
        """
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        self._is_piecewise = True
        try:
            while not self.is_over or self._pending:
                await self._arrived.wait()
                if not self.is_over and (seconds := next_at - loop.time()) > 0:
                    await asyncio.sleep(seconds)
                next_at = loop.time() + self._settings.coalesce_seconds
                for piece in self._take():
                    yield piece
        finally:
            if not self.is_over:
                self.cancel("client")
        if self._error is not None:
            raise self._error

    async def finished(self) -> list[Finished]:
        """Return all texts, in the order of their index, once the last is finished.

        For who does not want the pieces, or took them all.

        Raises:
            RequestError: If the job fails.
        """
        self._is_whole = True
        self._drop_pending()
        await self._over.wait()
        if self._error is not None:
            raise self._error
        return [self._finished[index] for index in range(self._n)]

    def cancel(self, reason: str) -> None:
        """Let the engine forget the job, within one step; who waits for it gets a RequestError.

        Args:
            reason: A word to count it by, such as "client".
        """
        self._is_cancelled = True
        self._forget(self, cancelled(), reason)

    def put_prompt(self, prompt: PromptRead, at: float) -> None:
        """Take in that the prompt was read, and when."""
        if self._prompt is None:
            self._prompt, self._read_at = prompt, at
        self._prompt_known.set()

    def put(self, index: int, text: str, tokens: tuple[TokenLogprobs, ...]) -> None:
        """Take in what a step wrote of one text."""
        if self.is_over or self._is_whole or not (text or tokens):
            return
        pending = self._pending_of(index)
        pending.text.append(text)
        pending.tokens += tokens
        self._pending_bytes += len(text.encode())
        self._pending_bytes += sum(_LOGPROB_BYTES * (1 + len(token.top)) for token in tokens)
        self._arrived.set()
        if self._is_piecewise and self._pending_bytes > self._settings.backlog_bytes:
            self._lose()

    def put_finished(self, finished: Finished) -> None:
        """Take in that one text is whole."""
        if self.is_over:
            return
        self._finished[finished.index] = finished
        if not self._is_whole:
            self._pending_of(finished.index).finished = finished
        if len(self._finished) == self._n:
            self._over.set()
        self._arrived.set()

    def fail(self, error: RequestError) -> None:
        """Take in that nothing more will come; no matter if that is known."""
        if not self.is_over:
            self._error = error
            for event in (self._over, self._prompt_known, self._arrived):
                event.set()

    def _pending_of(self, index: int) -> _Pending:
        """Return what is pending of one text; if it is the first thing, it may not be for long."""
        if not self._pending and self._is_piecewise:
            # Weakly, so that a ticket that nobody has any more is gone with all that it holds.
            seconds, lose = self._settings.backlog_seconds, WeakMethod(self._lose)
            self._alarm = asyncio.get_running_loop().call_later(seconds, _call, lose)
        return self._pending.setdefault(index, _Pending())

    def _lose(self) -> None:
        """End the job, as its reader is too slow."""
        self._drop_pending()
        self._finished = {}  # each holds a state
        error = RequestError(_TOO_SLOW, status=408, code="backlog")
        self.fail(error)
        self._error = error
        self._forget(self, error, "backlog")

    def _take(self) -> list[Piece]:
        """Return what is pending, which is then not pending any more."""
        pieces = [
            Piece(index, "".join(each.text), tuple(each.tokens), each.finished)
            for index, each in self._pending.items()
        ]
        self._drop_pending()
        return pieces

    def _drop_pending(self) -> None:
        self._pending = {}
        self._pending_bytes = 0
        if self._alarm is not None:
            self._alarm.cancel()
        if not self.is_over:
            self._arrived.clear()


def cancelled() -> RequestError:
    """Return what is raised to who waits for a job that was cancelled."""
    return RequestError(_CANCELLED, status=499, code="cancelled")


def _call(method: WeakMethod[Callable[[], None]]) -> None:
    if there := method():
        there()


_CANCELLED = "the request was cancelled before its end"
_TOO_SLOW = (
    "the answer must be read as fast as it is written, but too much of it waited for too long; "
    "read faster, or ask without `stream`"
)
