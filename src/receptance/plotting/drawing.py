"""Charts as characters, for a terminal."""

import math
from collections.abc import Sequence
from itertools import pairwise

from rich.text import Text

from receptance.plotting.canvas import ASCII, BRAILLE, Canvas
from receptance.plotting.chart import Chart, Curve, thinned
from receptance.plotting.ticks import tick_labels, ticks

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "white")
MAIN_ROWS, SMALL_ROWS = 14, 7
MIN_WIDTH = 40
TWO_COLUMNS_WIDTH = 76
"""From this width on, small charts stand side by side."""
GAP = "   "
LAYERS = {"faint": 1, "thin": 2, "line": 3, "dots": 3}


def draw(
    charts: Sequence[Chart], width: int, *, is_coloured: bool = True, is_braille: bool = True
) -> Text:
    """Return charts drawn with characters: the first one large, the others below it.

    Args:
        charts: What to draw; at least one.
        width: Characters in a line; below 40 it is taken as 40.
        is_coloured: Whether colours will be seen. Else curves of different labels differ in their
            dashes, and faint ones are left out where they would hide lines.
        is_braille: Whether braille characters will be seen, rather than ASCII only.
    """
    width = max(width, MIN_WIDTH)
    labels = list(dict.fromkeys(curve.label for chart in charts for curve in chart.curves))
    pens = {label: _Pen(index, is_coloured, is_braille) for index, label in enumerate(labels)}
    lines = [*_legend(pens, width), Text()]
    lines += _draw_chart(charts[0], width, MAIN_ROWS, pens)
    small = list(charts[1:])
    n_columns = 2 if width >= TWO_COLUMNS_WIDTH else 1
    each_width = (width - len(GAP) * (n_columns - 1)) // n_columns
    for index in range(0, len(small), n_columns):
        beside = [
            _draw_chart(chart, each_width, SMALL_ROWS, pens)
            for chart in small[index : index + n_columns]
        ]
        lines.append(Text())
        lines += [Text(GAP).join(row) for row in zip(*beside, strict=True)]
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


class _Pen:
    """How the curves of one label are drawn."""

    def __init__(self, index: int, is_coloured: bool, is_braille: bool) -> None:
        self.colour = COLOURS[index % len(COLOURS)] if is_coloured else ""
        self.is_coloured = is_coloured
        self.glyphs = BRAILLE if is_braille else ASCII
        # Dots drawn and left out, in turn; with colours all are drawn.
        self.dashes = (1, 0) if is_coloured else ((1, 0), (4, 3), (1, 2), (7, 3))[index % 4]

    def style(self, curve: Curve) -> str:
        """Return the style of a curve, as rich names it."""
        if not self.is_coloured:
            return ""
        if curve.style == "crosses":
            return "bold red"
        return f"dim {self.colour}" if curve.style in ("faint", "thin") else f"bold {self.colour}"

    def is_down(self, x: int) -> bool:
        """Whether a dot in this column is drawn."""
        drawn, left_out = self.dashes
        return x % (drawn + left_out) < drawn


def _legend(pens: dict[str, _Pen], width: int) -> list[Text]:
    """Return the labels, one a line, each with its line."""
    lines = []
    for label, pen in pens.items():
        canvas = Canvas(3, 1, pen.glyphs)
        for x in range(canvas.width):
            if pen.is_down(x):
                canvas.dot(x, canvas.height // 2, f"bold {pen.colour}".strip(), 1)
        line = canvas.rows()[0].append(f" {label}")
        line.truncate(width)
        lines.append(line)
    return lines


def _draw_chart(chart: Chart, width: int, n_rows: int, pens: dict[str, _Pen]) -> list[Text]:
    """Return the lines of a chart, all `width` wide: its title, its rows, its axis."""
    low, high = chart.y_range()
    y_values = ticks(low, high, max(2, n_rows // 3), is_log=chart.is_log)
    y_labels = tick_labels(y_values, is_log=chart.is_log)
    margin = max(map(len, y_labels), default=0)
    glyphs = next(iter(pens.values())).glyphs
    canvas = Canvas(width - margin - 2, n_rows, glyphs)
    frame = _Frame(chart, canvas)
    for curve in chart.curves:
        _draw_curve(chart, curve, frame, pens[curve.label])

    room = width - len(chart.title) - len(chart.x_label)
    right = " " * room + chart.x_label if room > 1 else ""
    title = Text.assemble((chart.title, "bold"), (right, "dim"))
    title.set_length(width)
    at_row = {
        frame.y(value) // glyphs.n_rows: label
        for value, label in zip(y_values, y_labels, strict=True)
    }
    lines = [title]
    for row, drawn in enumerate(canvas.rows()):
        label = at_row.get(row, "")
        axis = f"{label:>{margin}} {glyphs.axes[bool(label)]}"
        lines.append(Text.assemble((axis, "dim"), drawn))
    return lines + _x_axis(frame, margin)


class _Frame:
    """Where a point of a chart lies on its canvas."""

    def __init__(self, chart: Chart, canvas: Canvas) -> None:
        self.canvas = canvas
        self.is_log, self.is_log_x = chart.is_log, chart.is_log_x
        self.x_range = chart.x_range
        self.low, self.high = (_scaled(end, self.is_log) for end in chart.y_range())

    def x(self, value: float) -> int:
        """Return the column of dots."""
        first, last, x = (_scaled(each, self.is_log_x) for each in (*self.x_range, value))
        return round((x - first) / (last - first) * (self.canvas.width - 1))

    def y(self, value: float) -> int:
        """Return the row of dots, counted from the top; far outside, only that it is outside."""
        part = (self.high - _scaled(value, self.is_log)) / (self.high - self.low)
        return round(min(max(part, -2.0), 3.0) * (self.canvas.height - 1))


def _scaled(value: float, is_log: bool) -> float:
    return math.log(value) if is_log else value


def _draw_curve(chart: Chart, curve: Curve, frame: _Frame, pen: _Pen) -> None:
    canvas, style = frame.canvas, pen.style(curve)
    if curve.style == "crosses":
        for x, y in zip(curve.x, curve.y, strict=True):
            row = frame.y(y) if math.isfinite(y) else 0
            canvas.mark(frame.x(x), min(max(row, 0), canvas.height - 1), canvas.glyphs.cross, style)
        return
    if curve.style == "faint" and not pen.is_coloured and _is_crowded(chart):
        return
    layer = LAYERS[curve.style]
    dots = [(frame.x(x), frame.y(y)) for x, y in chart.points(thinned(curve, canvas.width))]
    if curve.style == "faint":
        for x, y in dots:
            canvas.dot(x, y, style, layer)
        return
    for begin, end in pairwise(dots if len(dots) > 1 else dots * 2):
        if pen.is_down(begin[0]):
            canvas.line(begin, end, style, layer)
    if curve.style == "dots" and canvas.n_columns > 3 * len(dots):
        for x, y in dots:
            canvas.mark(x, min(max(y, 0), canvas.height - 1), canvas.glyphs.disc, style)


def _is_crowded(chart: Chart) -> bool:
    """Whether a chart has lines of several labels, which scattered dots would hide."""
    return len({curve.label for curve in chart.curves if curve.style == "line"}) > 1


def _x_axis(frame: _Frame, margin: int) -> list[Text]:
    """Return the axis below a chart, and its numbers."""
    canvas = frame.canvas
    values = ticks(*frame.x_range, max(2, canvas.n_columns // 12), is_log=frame.is_log_x)
    labels = tick_labels(values, is_log=frame.is_log_x)
    corner, plain, tick = canvas.glyphs.axes[2:]
    axis = [plain] * canvas.n_columns
    numbers = [" "] * (margin + 2 + canvas.n_columns)
    free = 0
    for value, label in zip(values, labels, strict=True):
        column = frame.x(value) // canvas.glyphs.n_columns
        axis[column] = tick
        begin = min(max(margin + 2 + column - len(label) // 2, 0), len(numbers) - len(label))
        if begin >= free:
            numbers[begin : begin + len(label)] = label
            free = begin + len(label) + 1
    line = " " * (margin + 1) + corner + "".join(axis)
    return [Text(line, "dim"), Text("".join(numbers), "dim")]
