"""Which jobs have places, from the promise until the engine is done with them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from receptance.serving.engine_room.admission import Admission
from receptance.serving.engine_room.allowance import Allowance
from receptance.serving.engine_room.ticket import Ticket


@dataclass(eq=False)
class _Place:
    """What a job takes of the room."""

    owner: str
    n: int
    """Texts that are not finished."""
    is_waiting: bool = True
    began: float = 0.0
    alarms: list[asyncio.TimerHandle] = field(default_factory=list)


class Places:
    """Keeps the counts right as jobs come, begin and go; it belongs to the event loop."""

    def __init__(
        self, admission: Admission, allowance: Allowance, now: Callable[[], float]
    ) -> None:
        """Begin with none taken.

        Args:
            admission: Counts the texts.
            allowance: Counts the tokens.
            now: The loop's clock.
        """
        self._admission = admission
        self._allowance = allowance
        self._now = now
        self._places: dict[Ticket, _Place] = {}
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __len__(self) -> int:
        """How many jobs are here."""
        return len(self._places)

    @property
    def tickets(self) -> list[Ticket]:
        """Of all jobs that are here."""
        return list(self._places)

    async def until_empty(self) -> None:
        """Return when nobody has a place or the promise of one."""
        while self._admission.n_open:  # a place that was given on was empty for a moment
            await self._is_empty.wait()

    def promise(self, owner: str, n: int) -> None:
        """Promise places to `n` texts of a key; each becomes a job's, or is withdrawn."""
        self._admission.promise(owner, n)
        self._is_empty.clear()

    def withdraw(self, owner: str, n: int) -> None:
        """Take back a promise."""
        self._admission.begin(owner, n)
        self._leave(n)

    def take(self, ticket: Ticket, owner: str, n: int, alarms: list[asyncio.TimerHandle]) -> None:
        """Give a job the places that were promised.

        Args:
            ticket: Of the job.
            owner: Whose it is.
            n: How many texts it has.
            alarms: What ends it when it takes too long; they are cancelled with its end.
        """
        self._places[ticket] = _Place(owner, n, alarms=alarms)

    def owner_of(self, ticket: Ticket) -> str:
        """Return whose a job is that is here."""
        return self._places[ticket].owner

    def is_waiting(self, ticket: Ticket) -> bool:
        """Return whether the engine has not begun with a job that is here."""
        return self._places[ticket].is_waiting

    def begin(self, ticket: Ticket) -> None:
        """Note that a job waits no more."""
        place = self._places[ticket]
        place.is_waiting = False
        place.began = self._now()
        self._admission.begin(place.owner, place.n)

    def finish_text(self, ticket: Ticket) -> None:
        """Note that one text of a job is finished."""
        place = self._places[ticket]
        place.n -= 1
        self._admission.finish(self._now() - place.began)

    def leave(self, ticket: Ticket, n_tokens: int) -> None:
        """Note that a job is gone, and how many tokens it was given."""
        place = self._places.pop(ticket)
        self._allowance.take(place.owner, n_tokens, self._now())
        for alarm in place.alarms:
            alarm.cancel()
        if place.is_waiting:
            self._admission.begin(place.owner, place.n)
        self._leave(place.n)

    def _leave(self, n: int) -> None:
        self._admission.leave(n)
        if not self._admission.n_open:
            self._is_empty.set()
