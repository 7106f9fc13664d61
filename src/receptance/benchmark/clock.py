"""Times that can be compared: what is measured takes turns, so that a slow minute hits all."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Timed:
    """Something that is run again and again, and how long each run took."""

    run: Callable[[], object]
    seconds: list[float] = field(default_factory=list[float])
    began: list[float] = field(default_factory=list[float])
    """When each run began, on the clock of `time.perf_counter`."""

    def time(self) -> None:
        """Run it once and note how long that takes."""
        began = time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - began)
        self.began.append(began)

    @property
    def median_s(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The longest run less the shortest, over the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median_s

    def times_shorter_than(self, other: "Timed") -> float:
        """Return the other's seconds over these, each run beside the other's nearest in time.

        The median of these ratios says more than the ratio of the medians where a machine is
        shared: whatever slows it for a while slows both.
        """
        ratios: list[float] = []
        for began, seconds in zip(self.began, self.seconds, strict=True):
            pairs = zip(other.began, other.seconds, strict=True)
            _, beside = min(pairs, key=lambda pair: abs(pair[0] - began))
            ratios.append(beside / seconds)
        return statistics.median(ratios)


def alternate(
    cases: Sequence[Timed], n_rounds: int, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Run each case once a round, in turn forward and backward, and note the seconds.

    Args:
        cases: What is run; one may come several times, as a ceiling between what it is beside.
        n_rounds: How many times.
        tell: Told of each round as it begins.
    """
    for index in range(n_rounds):
        tell(f"round {index + 1} of {n_rounds}")
        for case in cases if index % 2 == 0 else reversed(cases):
            case.time()
