"""How long texts take here, and so when who finds no place should come again."""

_WEIGHT = 0.1  # of the newest text in the average
_LEAST, _MOST = 1.0, 60.0


class Pace:
    """A moving average of the seconds that a text takes in the engine."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    def note(self, seconds: float) -> None:
        """Take in that a text took so long."""
        before = seconds if self._seconds is None else self._seconds
        self._seconds = before + _WEIGHT * (seconds - before)

    def seconds_until_a_place(self, n_waiting: int, n_slots: int) -> float:
        """Return when a place is likely to be free, between a second and a minute.

        Args:
            n_waiting: How many texts wait before that place.
            n_slots: How many are written at once.
        """
        if self._seconds is None:
            return _LEAST
        return min(_MOST, max(_LEAST, self._seconds * (n_waiting + 1) / n_slots))
