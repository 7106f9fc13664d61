"""How the texts of the engine become an answer, whole or as a stream."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from receptance.errors import RequestError
from receptance.serving.engine_room import Finished, Piece, PromptRead, Ticket
from receptance.serving.protocol import Envelope, TokenTexts, WritingBody, usage_object
from receptance.serving.routes.keeping import Keeping
from receptance.serving.routes.leaving import EventStream, unless_left
from receptance.serving.settings import Settings


@dataclass(kw_only=True)
class Tally:
    """What the texts of one request took; begun when it arrives.

    When a prompt was read and a text ended is as the engine's thread says: until the event loop
    hears of it, other work may take long there.
    """

    prompts: list[PromptRead] = field(default_factory=list)
    completion_tokens: int = 0
    began: float = field(default_factory=time.monotonic)
    read: float = 0.0
    written: float = 0.0

    def note_prompts(self, prompts: Sequence[PromptRead], at: float) -> None:
        """Note that all prompts were read, and when the last of them was."""
        self.prompts = list(prompts)
        self.read = at

    def note(self, finished: Finished) -> None:
        """Note that a text is whole."""
        self.completion_tokens += finished.generation.generated_tokens
        self.written = max(self.written, finished.at)

    @property
    def usage(self) -> dict[str, Any]:
        """OpenAI's count of the tokens."""
        n_tokens = sum(each.n_tokens for each in self.prompts)
        cached = sum(each.cached_tokens for each in self.prompts)
        return usage_object(n_tokens, self.completion_tokens, cached)

    @property
    def timings(self) -> dict[str, float | int]:
        """How long the parts took, by llama.cpp's names; the queue is in `prompt_ms`."""
        prompt_seconds, written_seconds = self.read - self.began, self.written - self.read
        n_read = sum(each.n_tokens - each.cached_tokens for each in self.prompts)
        return {
            "prompt_n": n_read,
            "prompt_ms": 1000 * prompt_seconds,
            "prompt_per_second": n_read / max(prompt_seconds, 1e-9),
            "predicted_n": self.completion_tokens,
            "predicted_ms": 1000 * written_seconds,
            "predicted_per_second": self.completion_tokens / max(written_seconds, 1e-9),
        }


@dataclass(frozen=True, kw_only=True)
class Answer(ABC):
    """An answer that the engine writes, whole or as a stream."""

    body: WritingBody
    tickets: Sequence[Ticket]
    envelope: Envelope
    tally: Tally
    texts: TokenTexts
    keeping: Keeping

    @abstractmethod
    async def whole(self) -> Response:
        """Return it as one object."""

    @abstractmethod
    def events(self) -> AsyncGenerator[bytes, None]:
        """Yield it as events: each block holds all that is known by then."""

    async def response(self, request: HTTPRequest, settings: Settings) -> Response:
        """Return it as the client asked for it, or as much as it stays for.

        Args:
            request: Whose body was read.
            settings: How long a stream waits for what.

        Raises:
            RequestError: If a text fails before a stream has begun, or the client left.
        """
        if self.body.stream:
            return EventStream(self.events(), leave=self.leave, settings=settings)
        return await unless_left(request, self.whole(), self.leave)

    def leave(self) -> None:
        """End what nobody waits for any more."""
        leave_all(self.tickets)
        self.keeping.leave()

    async def more(self, last: Finished | None) -> dict[str, Any]:
        """Return the fields at its end that were asked for; the last text's state is kept."""
        timings = {"timings": self.tally.timings} if self.body.timings else {}
        return timings | await self.keeping.told(None if last is None else last.generation)


def leave_all(tickets: Sequence[Ticket]) -> None:
    """Let the engine forget what nobody waits for any more."""
    for ticket in tickets:
        if not ticket.is_over:
            ticket.cancel("client")


async def read_prompts(tickets: Sequence[Ticket], tally: Tally) -> list[PromptRead]:
    """Return what is known of all prompts, once they were read.

    Args:
        tickets: Of the prompts.
        tally: Gets them.

    Raises:
        RequestError: If one fails before.
    """
    prompts = [await ticket.prompt() for ticket in tickets]
    tally.note_prompts(prompts, max(ticket.read_at for ticket in tickets))
    return prompts


async def pieces_of(tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[int, Piece], None]:
    """Yield the pieces of all tickets as they come, each with the number of its ticket.

    Args:
        tickets: All of one request.

    Raises:
        RequestError: If one of them fails.
    """
    if len(tickets) == 1:
        async for piece in tickets[0].pieces():
            yield 0, piece
        return
    # One place in the queue: what the client does not take waits in the tickets, which count it.
    queue: asyncio.Queue[tuple[int, Piece] | RequestError | None] = asyncio.Queue(1)
    pumps = [
        asyncio.ensure_future(_pump(i, each.pieces(), queue)) for i, each in enumerate(tickets)
    ]
    try:
        n_left = len(pumps)
        while n_left:
            item = await queue.get()
            if isinstance(item, RequestError):
                raise item
            if item is None:
                n_left -= 1
            else:
                yield item
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    number: int,
    pieces: AsyncIterator[Piece],
    queue: "asyncio.Queue[tuple[int, Piece] | RequestError | None]",
) -> None:
    """Pass on the pieces of one ticket, and then how it ended."""
    try:
        async for piece in pieces:
            await queue.put((number, piece))
    except RequestError as error:
        await queue.put(error)
    else:
        await queue.put(None)
