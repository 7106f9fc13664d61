"""Means with their intervals, and lines through points."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

# Student's t, two-sided 95 %, by degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Interval(NamedTuple):
    """A mean and how far from it its 95 % interval reaches to both sides."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half:.4f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent values, with its interval by Student's t.

    Args:
        values: One of each seed; from two to ten.

    Raises:
        ValueError: If there are fewer or more.
    """
    n = len(values)
    if not 2 <= n <= len(T_95) + 1:
        raise ValueError(f"`values` must be 2 to {len(T_95) + 1}, got {n}")
    half = T_95[n - 2] * statistics.stdev(values) / math.sqrt(n)
    return Interval(statistics.fmean(values), half)


class PowerLaw(NamedTuple):
    """y = factor * x^power."""

    factor: float
    power: float

    def __call__(self, x: float) -> float:
        """Return y."""
        return self.factor * x**self.power


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Return the straight line through points in logarithms, by least squares."""
    line = statistics.linear_regression(
        [math.log(each) for each in x], [math.log(each) for each in y]
    )
    return PowerLaw(math.exp(line.intercept), line.slope)


def r_squared(law: PowerLaw, x: Sequence[float], y: Sequence[float]) -> float:
    """Return 1 - (what the line leaves of the variance of log y) / (that variance).

    Below 0 where the mean of the points is nearer to them than the line.
    """
    logs = [math.log(each) for each in y]
    left = sum((log - math.log(law(each))) ** 2 for log, each in zip(logs, x, strict=True))
    mean = statistics.fmean(logs)
    return 1 - left / sum((log - mean) ** 2 for log in logs)


class Point(NamedTuple):
    """A run that has ended."""

    compute: float
    loss: float


def pareto(points: list[Point]) -> list[Point]:
    """Return those than which no point has a lower loss for as little compute, rising in it."""
    best: list[Point] = []
    for point in sorted(points):
        if not best or point.loss < best[-1].loss:
            best.append(point)
    return best
