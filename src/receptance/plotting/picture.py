"""Charts as a picture, by matplotlib."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from receptance.atomic import atomic_file
from receptance.errors import ReceptanceError
from receptance.plotting.chart import Chart, Curve, thinned
from receptance.plotting.ticks import tick_labels, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_FORMATS = ("png", "svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Of Okabe and Ito, which colour-blind people can tell apart; for each label the next one."""
CROSS_COLOUR = "#c1121f"
INK, GREY, GRID = "#222222", "#666666", "#e4e4e4"
WIDTH_IN, ROW_HEIGHT_IN = 11.5, 3.4
N_SMALL = 3
"""Charts in the lower row; those before them are in the upper one, the first twice as wide."""
N_COLUMNS = 1200
"""Of points; finer than the picture's pixels, where a curve is drawn over two thirds of it."""


def require_matplotlib(instead: str = "") -> None:
    """Make sure, before long work, that a picture can be drawn after it.

    Args:
        instead: What one can do without it, for the error, such as ", or draw elsewhere".

    Raises:
        ReceptanceError: If matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ReceptanceError(
            "a picture is drawn by matplotlib, which is not installed; install it with "
            f"`pip install 'receptance[plot]'`{instead}"
        )


def save_picture(charts: Sequence[Chart], path: Path) -> None:
    """Draw charts in a file; the same charts give the same bytes.

    Args:
        charts: What to draw, the first one largest.
        path: Ends with `.png` or `.svg`; replaced if it exists.

    Raises:
        ReceptanceError: If matplotlib is not installed.
        ValueError: If `path` has another ending.
        OSError: If the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in PICTURE_FORMATS:
        raise ValueError(f"a picture must end with .png or .svg, got {str(path)!r}")
    require_matplotlib()
    from matplotlib import rc_context  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Without these, an SVG has random names in it and its text as outlines, and a `$` in a label
    # begins a formula.
    settings = rc_context(
        {"svg.hashsalt": "receptance", "svg.fonttype": "none", "text.parse_math": False}
    )
    with settings, atomic_file(path) as staged:
        figure = Figure(figsize=(WIDTH_IN, 0), layout="constrained")
        _draw_figure(figure, charts)
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(staged, format=kind, dpi=160, metadata=metadata)


def _draw_figure(figure: "Figure", charts: Sequence[Chart]) -> None:
    labels = list(dict.fromkeys(curve.label for chart in charts for curve in chart.curves))
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}
    upper = list(charts[: max(len(charts) - N_SMALL, 1)])
    rows = [upper, list(charts[len(upper) :])]
    rows = [row for row in rows if row]
    figure.set_size_inches(WIDTH_IN, ROW_HEIGHT_IN * len(rows))
    grid = figure.add_gridspec(len(rows), 1, height_ratios=[1.25, 1.0][: len(rows)])
    for index, row in enumerate(rows):
        widths = [2] * (row is upper) + [1] * (len(row) - (row is upper))
        cells = grid[index].subgridspec(1, len(row), width_ratios=widths)
        for column, chart in enumerate(row):
            _draw_chart(figure.add_subplot(cells[column]), chart, colours)
    _add_legend(figure, colours)


def _add_legend(figure: "Figure", colours: dict[str, str]) -> None:
    """Write the labels above all, one a line, each with its colour."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    handles = [
        Line2D([], [], color=colour, linewidth=3, label=label) for label, colour in colours.items()
    ]
    figure.legend(
        handles=handles, loc="outside upper left", frameon=False, fontsize=10, labelcolor=INK
    )


def _draw_chart(axes: "Axes", chart: Chart, colours: dict[str, str]) -> None:
    axes.set_title(chart.title, loc="left", fontsize=10, color=INK, pad=8)
    axes.set_xlabel(chart.x_label, color=GREY, fontsize=8.5)
    axes.set_yscale("log" if chart.is_log else "linear")
    axes.set_ylim(*chart.y_range())
    first, last = chart.x_range
    axes.set_xscale("log" if chart.is_log_x else "linear")
    # So that the last dot is a whole one.
    beyond = last * (last / first) ** 0.01 if chart.is_log_x else last + 0.01 * (last - first)
    axes.set_xlim(first, beyond)
    y_ticks = ticks(*chart.y_range(), 5, is_log=chart.is_log)
    axes.set_yticks(y_ticks, tick_labels(y_ticks, is_log=chart.is_log))
    x_ticks = ticks(first, last, 5, is_log=chart.is_log_x)
    axes.set_xticks(x_ticks, tick_labels(x_ticks, is_log=chart.is_log_x))
    axes.minorticks_off()
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=GREY, length=0, labelsize=8.5)
    axes.tick_params(axis="x", length=3)
    for curve in chart.curves:
        _draw_curve(axes, chart, thinned(curve, N_COLUMNS), colours[curve.label])


def _draw_curve(axes: "Axes", chart: Chart, curve: Curve, colour: str) -> None:
    points = chart.points(curve)
    x, y = [x for x, _ in points], [y for _, y in points]
    if curve.style == "crosses":
        low, high = chart.y_range()
        y = [min(max(each, low), high) if math.isfinite(each) else high for each in curve.y]
        axes.plot(
            curve.x, y, "x", color=CROSS_COLOUR, markersize=6, markeredgewidth=1.6, clip_on=False
        )
    elif curve.style == "faint":
        axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.7, zorder=1.5)
    elif curve.style == "thin":
        axes.plot(x, y, color=colour, alpha=0.6, linewidth=1.2, zorder=2)
    elif curve.style == "dots":
        size = 4.5 if len(points) <= 40 else 0
        axes.plot(x, y, "-o", color=colour, linewidth=1.6, markersize=size, zorder=3)
    else:
        axes.plot(x, y, color=colour, linewidth=1.8, zorder=2.5, solid_capstyle="round")
