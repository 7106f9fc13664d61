"""How the figures of the page look: alike, and readable in print."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from receptance.atomic import atomic_file
from receptance.plotting.picture import COLOURS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "draw_band", "narrow_log", "new_figure", "save_figure"]


def new_figure(
    n_columns: int = 1, n_rows: int = 1, *, width: float = 5.2, height: float = 3.6
) -> "tuple[Figure, np.ndarray]":
    """Return a figure and its axes, [n_rows, n_columns].

    Args:
        n_columns: Axes side by side.
        n_rows: Axes one below the other.
        width: Of each, in inches.
        height: Of each, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n_columns, height * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for each in axes.flat:
        each.grid(color="#e4e4e4", linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_band(
    axis: "Axes", x: Sequence[float], points: Sequence[Sequence[float]], colour: str, name: str
) -> None:
    """Draw the mean of several curves, and the area from the lowest to the highest.

    Args:
        axis: What to draw on.
        x: The places.
        points: At each place the values of all curves.
        colour: Of the line and of the area.
        name: For the legend.
    """
    axis.plot(x, [statistics.fmean(each) for each in points], color=colour, label=name)
    lows, highs = [min(each) for each in points], [max(each) for each in points]
    axis.fill_between(x, lows, highs, color=colour, alpha=0.25, linewidth=0)


def narrow_log(axis: "Axes") -> None:
    """Let the vertical axis be logarithmic, with plain numbers, where it spans less than ten."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same figure gives the same bytes."""
    with atomic_file(path) as staged:
        figure.savefig(staged, format="png", dpi=150, metadata={"Software": None})
