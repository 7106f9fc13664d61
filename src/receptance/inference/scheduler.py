"""Who goes next: the policy of the engine, without a tensor or a token."""

from collections import deque
from collections.abc import Sequence


class Scheduler:
    """Decides which requests get slots, and whose prompt is read next.

    Requests that go on from one prompt are a family: they begin together, one slot for each.

    - Families are admitted in the order in which they came, each as soon as there are slots for
      all of its members. None is passed by another, so none waits for ever.
    - Of the prompts that are being read, one chunk goes through the model each step, theirs in
      turn: behind the longest prompt a short one waits for single chunks, never for its end.
    - All sequences whose prompt is read decode a token each step. So a chunk delays them by its
      own time at most, and they never hold back a prompt.
    """

    def __init__(self) -> None:
        self._waiting: deque[list[int]] = deque()
        self._reading: deque[list[int]] = deque()

    @property
    def n_waiting(self) -> int:
        """How many requests have no slot yet."""
        return sum(map(len, self._waiting))

    def add(self, family: Sequence[int]) -> None:
        """Line up a family.

        Args:
            family: The ids of its members, at least one.
        """
        self._waiting.append(list(family))

    def admit(self, n_free: int) -> list[list[int]]:
        """Return the families that begin now; from now on their prompts are read.

        Args:
            n_free: How many slots are free. While a family reads it has taken one of its own, and
                the others are kept for it.
        """
        n_free -= sum(len(family) - 1 for family in self._reading)
        admitted: list[list[int]] = []
        while self._waiting and len(self._waiting[0]) <= n_free:
            family = self._waiting.popleft()
            n_free -= len(family)
            admitted.append(list(family))
            self._reading.append(family)
        return admitted

    def next_to_read(self) -> list[int]:
        """Return the family whose turn it is to read a chunk; no member if there is none."""
        if not self._reading:
            return []
        self._reading.rotate(-1)
        return list(self._reading[-1])

    def remove(self, request_id: int) -> None:
        """Forget a request whose prompt is read, or that is no longer wanted.

        Args:
            request_id: Of any request; one that is not here is passed over.
        """
        for families in (self._waiting, self._reading):
            for family in [each for each in families if request_id in each]:
                family.remove(request_id)
                if not family:
                    families.remove(family)
