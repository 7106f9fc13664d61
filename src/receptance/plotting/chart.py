"""What is to be drawn: charts of curves, and the range that a chart shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

HIDDEN_BEGINNING = 0.05
"""The part of the x-axis whose y do not widen a `zoomed` chart: there a run falls from the loss of
knowing nothing, which would press all that follows into a line."""
HIDDEN_OUTLIERS = 0.002
"""The part of the faint values, at either end, that do not widen a `zoomed` chart."""
MEMORY_PART, MIN_MEMORY = 1 / 50, 4.0
"""What a smoothed line remembers, as a part of its values, and at least how many values."""
MARGIN = 0.05
"""The part of its height that a chart keeps free at either end."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line through points, oldest first; a y that is not finite is a gap."""

    label: str
    """What it is of. Curves with one label have one colour, in all charts."""
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"
    """"line"; "thin" for one behind it; "faint" for values that scatter, behind both; "dots" for a
    line through few values, each shown; "crosses" for places in red without a line, kept within
    the frame."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    """What y is, with its unit."""
    x_label: str
    x_range: tuple[float, float]
    """The first x and the last, above it."""
    curves: Sequence[Curve]
    is_log: bool = False
    """Whether y grows by factors; values not above 0 are then gaps."""
    is_log_x: bool = False
    """Whether x grows by factors; all of them are then above 0."""
    is_zoomed: bool = False
    """Whether the range leaves out the beginning of the lines, and outliers."""

    def y_range(self) -> tuple[float, float]:
        """Return the lowest and the highest y to show; the first is below the second."""
        begin = self._zoom_begin() if self.is_zoomed else -math.inf
        values: list[float] = []
        for curve in self.curves:
            if curve.style == "crosses":
                continue
            shown = sorted(y for x, y in self.points(curve) if x >= begin)
            hidden = int(HIDDEN_OUTLIERS * len(shown)) if curve.style == "faint" else 0
            shown = shown[hidden : len(shown) - hidden] if self.is_zoomed else shown
            values += shown[:1] + shown[-1:]
        low, high = min(values, default=1.0), max(values, default=1.0)
        if self.is_log:
            factor = (high / low) ** MARGIN if high > low else 2.0
            return low / factor, high * factor
        free = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
        return low - free, high + free

    def points(self, curve: Curve) -> list[tuple[float, float]]:
        """Return the points of a curve that can be drawn."""
        pairs = zip(curve.x, curve.y, strict=True)
        return [(x, y) for x, y in pairs if math.isfinite(y) and (y > 0 or not self.is_log)]

    def _zoom_begin(self) -> float:
        low, high = self.x_range
        return low + HIDDEN_BEGINNING * (high - low)


def thinned(curve: Curve, n_columns: int) -> Curve:
    """Return a curve of at most four points a column that looks the same.

    Of the points of a column the first, the lowest, the highest and the last are kept, so that no
    spike is lost.

    Args:
        curve: Its x do not fall.
        n_columns: In how many columns of equal width it is drawn.
    """
    if len(curve.x) <= 4 * n_columns:
        return curve
    first, last = curve.x[0], curve.x[-1]
    columns: dict[int, list[int]] = {}
    for index, x in enumerate(curve.x):
        if math.isfinite(curve.y[index]):
            column = int((x - first) / (last - first or 1.0) * n_columns)
            columns.setdefault(column, []).append(index)
    kept: list[int] = []
    for indices in columns.values():
        lowest = min(indices, key=lambda index: curve.y[index])
        highest = max(indices, key=lambda index: curve.y[index])
        kept += sorted({indices[0], lowest, highest, indices[-1]})
    x, y = [curve.x[index] for index in kept], [curve.y[index] for index in kept]
    return Curve(label=curve.label, x=x, y=y, style=curve.style)


def smoothed(curve: Curve, *, is_log: bool = False) -> Curve:
    """Return the line through a curve's values, each averaged with those before and after it.

    A value so many places away weighs (1 - 1/m) to that power, with m a fiftieth of all places: the
    line neither lags behind the values nor runs before them, and is as smooth in a long curve as
    in a short one. Gaps are left out.

    Args:
        curve: What to average.
        is_log: Whether to average the logarithms; values not above 0 are gaps then.
    """
    pairs = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
    pairs = [(x, math.log(y)) for x, y in pairs if y > 0] if is_log else pairs
    values = [y for _, y in pairs]
    kept = 1 - 1 / max(MIN_MEMORY, len(values) * MEMORY_PART)
    before = _decayed_sums(values, kept)
    after = _decayed_sums(values[::-1], kept)[::-1]
    means = [
        (sum_before + sum_after - value) / (weight_before + weight_after - 1)
        for value, (sum_before, weight_before), (sum_after, weight_after) in zip(
            values, before, after, strict=True
        )
    ]
    y = [math.exp(mean) for mean in means] if is_log else means
    return Curve(label=curve.label, x=[x for x, _ in pairs], y=y)


def _decayed_sums(values: Sequence[float], kept: float) -> list[tuple[float, float]]:
    """Return for each place Σ kept^(i - j) values_j over j ≤ i, and the same of ones."""
    total = weight = 0.0
    sums = []
    for value in values:
        total, weight = kept * total + value, kept * weight + 1
        sums.append((total, weight))
    return sums
