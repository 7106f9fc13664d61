"""How a request goes on from a kept state, and keeps the one after its answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from receptance.inference import Generation
from receptance.models import State
from receptance.serving.protocol import WritingBody
from receptance.serving.routes.service import Service
from receptance.serving.state_store import Kept, Place, StateStore

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """What came before a request."""

    kept: Kept | None = None
    state: State | None = None
    """None is the model's start."""

    @property
    def tokens(self) -> int:
        """How many tokens it has seen."""
        return 0 if self.kept is None else self.kept.tokens

    def cache_scope(self, owner: str) -> str | None:
        """Return whose prompts may be gone on from; nobody's, where a state came before."""
        return owner if self.state is None else None


async def start_of(service: Service, owner: str, id_: str | None) -> Start:
    """Return what a request goes on from.

    Args:
        service: Whose states are looked through.
        owner: Who asks.
        id_: Of a state; None is the model's start.

    Raises:
        RequestError: 404 if the owner has no such state.
    """
    return Start() if id_ is None else Start(*await aside(service.states.read, owner, id_))


async def aside(work: Callable[..., T], *args: Any) -> T:
    """Return what a function does that may wait for a disk."""
    return await asyncio.to_thread(work, *args)


async def reserved_aside(store: StateStore, owner: str) -> Place:
    """Return a place for one state more, and give it back if nobody waits for it any more.

    Args:
        store: Where to.
        owner: Who will have it.

    Raises:
        RequestError: If there is no place.
    """
    # The thread goes on when its waiter is cancelled, so that it may come to a place after that.
    reserving = asyncio.ensure_future(aside(store.reserve, owner))
    try:
        return await asyncio.shield(reserving)
    except asyncio.CancelledError:
        reserving.add_done_callback(_give_back)
        raise


def _give_back(reserving: "asyncio.Future[Place]") -> None:
    if not reserving.cancelled() and reserving.exception() is None:
        reserving.result().leave()


async def kept_aside(place: Place, work: Callable[..., Kept], *args: Any) -> Kept:
    """Return what a function keeps in a place, and keep nothing if nobody waits for it any more.

    Args:
        place: Where to.
        work: What calls `place.keep`, on a thread, and so goes on when its waiter is cancelled.
        args: What it takes.

    Raises:
        RequestError: If it cannot be kept.
    """
    try:
        return await aside(work, *args)
    except asyncio.CancelledError:
        # Forgetting may wait for a disk, too.
        asyncio.get_running_loop().run_in_executor(None, place.abandon)
        raise


@dataclass(frozen=True)
class Keeping:
    """Whether, and where, the state after an answer is kept."""

    service: Service
    start: Start
    place: Place | None
    model: str

    @classmethod
    async def begin(
        cls, service: Service, body: WritingBody, owner: str, start: Start
    ) -> "Keeping":
        """Take a place for the state, if it is wanted.

        Args:
            service: Whose states they are.
            body: What was sent.
            owner: Who asks.
            start: What came before.

        Raises:
            RequestError: If there is no place.
        """
        place = await reserved_aside(service.states, owner) if body.save_state else None
        return cls(service, start, place, service.envelope("", body.model).model)

    def leave(self) -> None:
        """Give the place back if nothing was kept in it."""
        if self.place is not None:
            self.place.leave()

    async def told(self, generation: Generation | None) -> dict[str, Any]:
        """Keep the state after an answer, and return the field that tells of it, if it is wanted.

        Args:
            generation: The answer.

        Raises:
            RequestError: If the state cannot be written.
        """
        if self.place is None or generation is None:
            return {}
        tokens = self.start.tokens + generation.prompt_tokens + len(generation.tokens)
        kept = await kept_aside(self.place, self.place.keep, "", tokens, generation.state)
        return {"state": kept.object(self.model)}
