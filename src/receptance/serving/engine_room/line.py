"""Who is next: the jobs that wait before the engine, and how many texts each key has in it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from receptance.inference import Request, TokenLogprobs
from receptance.serving.engine_room.ticket import Ticket


@dataclass(eq=False)
class Family:
    """A job on its way through the engine: its texts wait together, and begin together."""

    ticket: Ticket
    request: Request
    n: int
    owner: str
    arrived: float
    members: dict[int, int] = field(default_factory=dict)
    """Texts that the engine writes: their index by its id."""
    is_read: bool = False
    """Whether it was told that the prompt was read."""
    n_tokens: int = 0
    """How many tokens it was given."""
    last_token: dict[int, float] = field(default_factory=dict)
    """When each text got its last token."""
    logprobs: dict[int, list[TokenLogprobs]] = field(default_factory=dict)
    """Of the tokens of each text, if they were asked for."""


class Line:
    """Lets in the first job of the key that has the fewest texts running.

    If it has more texts than there is room for, those behind it pass it for a while, so that the
    engine need not idle. Then it is passed by nobody, so it comes to its places.
    """

    def __init__(self, n_slots: int, passing_seconds: float) -> None:
        self._n_slots = n_slots
        self._passing_seconds = passing_seconds
        self._held: tuple[Family, float] | None = None
        self._waiting: dict[Ticket, Family] = {}
        self._running_of: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def add(self, family: Family) -> None:
        """Line up a job."""
        self._waiting[family.ticket] = family

    def remove(self, family: Family) -> None:
        """Forget a job; one that does not wait is passed over."""
        self._waiting.pop(family.ticket, None)
        if self._held is not None and self._held[0] is family:
            self._held = None

    def next(self, now: float) -> Family | None:
        """Return the job that begins now, and waits no more; None if none has room yet."""
        n_free = self._n_slots - self._running_of.total()
        if not n_free or not self._waiting:
            return None
        family = self._first(self._waiting.values()) if self._held is None else self._held[0]
        if family.n > n_free:
            # Counted from here, not from its arrival, so that between two that wait for places,
            # one after the other, others come in.
            self._held = self._held or (family, now)
            if now - self._held[1] >= self._passing_seconds:
                return None
            fitting = [each for each in self._waiting.values() if each.n <= n_free]
            if not fitting:
                return None
            family = self._first(fitting)
        self.remove(family)
        self._running_of[family.owner] += family.n
        return family

    def _first(self, families: Iterable[Family]) -> Family:
        return min(families, key=lambda each: self._running_of[each.owner])

    def leave(self, owner: str, n: int) -> None:
        """Note that `n` texts of a key are not in the engine any more."""
        self._running_of[owner] -= n
        if not self._running_of[owner]:
            del self._running_of[owner]

    def clear(self) -> None:
        """Forget all jobs, and all texts in the engine."""
        self._waiting.clear()
        self._held = None
        self._running_of.clear()
