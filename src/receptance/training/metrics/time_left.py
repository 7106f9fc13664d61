"""How long a run still takes, with all that it does between its steps."""

from receptance.training.metrics.moving_average import MovingAverage

MEMORY = 50
"""How many durations of a kind are remembered: a run that becomes slower is seen to."""


class TimeLeft:
    """The seconds that are left, from how long each kind of thing took lately."""

    def __init__(self) -> None:
        self._averages: dict[str, MovingAverage] = {}

    def took(self, kind: str, seconds: float) -> None:
        """Remember that a thing of a kind, such as a step or a validation, took so long.

        The first of a kind is worth less than the others, since it may have compiled kernels or
        filled caches: it is forgotten when the second one comes.
        """
        average = self._averages.get(kind, MovingAverage())
        if average.n_values == 1:
            average = MovingAverage(n_values=1)
        self._averages[kind] = average.with_value(seconds, MEMORY)

    def seconds(self, **left: int) -> float:
        """Return the seconds that so many things of each kind will take.

        A kind of which none was done yet counts nothing.
        """
        averages = self._averages
        return sum(count * averages[kind].mean for kind, count in left.items() if kind in averages)


def n_due(step: int, n_steps: int, every: int) -> int:
    """Return how often something is still done after `step` of `n_steps` steps.

    Args:
        step: Steps done.
        n_steps: Of the whole run.
        every: It is done at the multiples of this, and at the last step; never where it is 0.
    """
    if every == 0 or step >= n_steps:
        return 0
    return -(-n_steps // every) - step // every
