"""Who is next: the jobs that wait before the engine, and how many texts each key has in it."""

from collections import Counter
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

    It is passed by nobody, so a job of many texts comes to its places.
    """

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
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

    def next(self) -> Family | None:
        """Return the job that begins now, and waits no more; None if it has no room yet."""
        n_free = self._n_slots - self._running_of.total()
        if not n_free or not self._waiting:
            return None
        family = min(self._waiting.values(), key=lambda each: self._running_of[each.owner])
        if family.n > n_free:
            return None
        self.remove(family)
        self._running_of[family.owner] += family.n
        return family

    def leave(self, owner: str, n: int) -> None:
        """Note that `n` texts of a key are not in the engine any more."""
        self._running_of[owner] -= n
        if not self._running_of[owner]:
            del self._running_of[owner]

    def clear(self) -> None:
        """Forget all jobs, and all texts in the engine."""
        self._waiting.clear()
        self._running_of.clear()
