"""The mean of what was measured lately, and how far it scatters."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MovingAverage:
    """Mean and deviation of a sequence x_1 … x_n in which older values weigh less and less.

    With a memory of m values, x_i has the weight w_i = (1 - 1/m)^(n-i). After the first value the
    mean is that value: no beginning from 0 has to be corrected.
    """

    n_values: int = 0
    weight: float = 0.0
    """W = Σ w_i, which tends to m."""
    mean: float = 0.0
    """Σ w_i x_i / W; 0 before the first value."""
    squares: float = 0.0
    """S = Σ w_i (x_i - mean)²."""

    @property
    def deviation(self) -> float:
        """The standard deviation, √(S / W); 0 before the second value."""
        return math.sqrt(self.squares / self.weight) if self.weight else 0.0

    def with_value(self, value: float, memory: int) -> "MovingAverage":
        """Return the average after one more value.

        Args:
            value: A finite number.
            memory: m, at least 1; with 1 only the last value counts.

        Source: D. H. D. West, "Updating mean and variance estimates", 1979.
        """
        kept = 1 - 1 / memory
        weight = kept * self.weight + 1
        mean = self.mean + (value - self.mean) / weight
        # The product is never negative but for the rounding of `mean`.
        squares = kept * self.squares + max((value - self.mean) * (value - mean), 0.0)
        return MovingAverage(n_values=self.n_values + 1, weight=weight, mean=mean, squares=squares)
