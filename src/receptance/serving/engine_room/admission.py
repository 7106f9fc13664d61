"""Who gets a place, and who is told when to come again: counted on the event loop."""

from collections import Counter

from receptance.errors import RequestError
from receptance.serving.engine_room.pace import Pace
from receptance.serving.settings import Settings


class Admission:
    """Counts the texts that were promised a place, from then until the engine is done with them.

    There are places for those that run and for those that wait. A text that waits is counted for
    its key, too: one key may have all places that are free, but only so much of the queue.
    """

    def __init__(self, settings: Settings) -> None:
        self._n_slots = settings.max_sequences
        self._max_waiting = settings.max_waiting
        self._max_waiting_of = settings.max_waiting_per_key
        self._waiting_of: Counter[str] = Counter()
        self._pace = Pace()
        self.n_open = 0
        """How many texts have a place."""

    @property
    def is_full(self) -> bool:
        """Whether there is no place."""
        return self.n_open >= self._n_slots + self._max_waiting

    def n_waiting_of(self, owner: str) -> int:
        """Return how many texts of a key wait."""
        return self._waiting_of[owner]

    def require_place(self, owner: str, n: int) -> None:
        """Refuse texts for which there is no place.

        Args:
            owner: The key that asks.
            n: How many texts.

        Raises:
            RequestError: If all are taken, or all that the key may have (429), or there never are
                so many (400).
        """
        most = max(self._n_slots, min(self._n_slots + self._max_waiting, self._max_waiting_of))
        if n > most:
            raise RequestError(_NEVER.format(most, n), param="n")
        if self.n_open + n > self._n_slots + self._max_waiting:
            raise self.full(_NO_PLACE.format(self._max_waiting))
        has_room = self.n_open + n <= self._n_slots
        if not has_room and self._waiting_of[owner] + n > self._max_waiting_of:
            raise self.full(_NO_PLACE_OF_KEY.format(self._max_waiting_of))

    def full(self, message: str) -> RequestError:
        """Return a refusal that says when a place is likely to be free."""
        n_waiting = max(0, self.n_open - self._n_slots)
        seconds = self._pace.seconds_until_a_place(n_waiting, self._n_slots)
        return RequestError(message, status=429, code="queue_full", retry_after=seconds)

    def promise(self, owner: str, n: int) -> None:
        """Give `n` texts of a key places in the queue."""
        self.n_open += n
        self._waiting_of[owner] += n

    def begin(self, owner: str, n: int) -> None:
        """Note that `n` texts wait no more."""
        self._waiting_of[owner] -= n
        if not self._waiting_of[owner]:
            del self._waiting_of[owner]

    def finish(self, seconds: float) -> None:
        """Note that a text is finished, and how long after it began."""
        self.n_open -= 1
        self._pace.note(seconds)

    def leave(self, n: int) -> None:
        """Note that `n` texts, none of which waits, give up their places."""
        self.n_open -= n


_NEVER = "prompts times `n` must be at most {} texts, as many as have a place, but they are {}"
_NO_PLACE = "all {} places in the queue are taken; ask again later"
_NO_PLACE_OF_KEY = "all {} places of this key in the queue are taken; ask again later"
