"""How the figures of the page look: alike, and readable in print."""

from pathlib import Path
from typing import TYPE_CHECKING

from receptance.atomic import atomic_file
from receptance.plotting.picture import COLOURS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "new_figure", "save_figure"]


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


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same figure gives the same bytes."""
    with atomic_file(path) as staged:
        figure.savefig(staged, format="png", dpi=150, metadata={"Software": None})
