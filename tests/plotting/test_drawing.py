"""A chart is drawn in characters so that its shape, its numbers and its runs are seen."""

import math
from itertools import pairwise
from typing import Any

import pytest

from receptance.plotting import Chart, Curve, draw

BLOCKS = {chr(code) for code in range(0x2800, 0x2900)}


def curve(y: list[float], *, label: str = "run", style: str = "line") -> Curve:
    return Curve(label=label, x=[float(i) for i in range(len(y))], y=y, style=style)


def chart(*curves: Curve, title: str = "loss", **shown: Any) -> Chart:
    return Chart(title=title, x_label="steps", x_range=(0.0, 100.0), curves=curves, **shown)


def falling(label: str = "run", style: str = "line") -> Curve:
    return curve([2.0 - i / 100 for i in range(101)], label=label, style=style)


def lines_of(*charts: Chart, width: int = 60, **options: Any) -> list[str]:
    return draw(charts, width, **options).plain.split("\n")


def test_a_chart_has_its_run_its_title_its_axes_and_a_line_that_falls():
    assert lines_of(chart(falling()), width=44) == [
        "⠤⠤⠤ run",
        "",
        "loss                                   steps",
        "2.00 ┤⢄⡀",
        "     │ ⠉⠢⢄⡀",
        "     │    ⠉⠲⢄⡀",
        "1.75 ┤       ⠉⠢⢄⡀",
        "     │          ⠉⠢⢄⡀",
        "     │             ⠉⠢⢄⡀",
        "1.50 ┤                ⠉⠢⢄⡀",
        "     │                   ⠉⠢⢄",
        "     │                      ⠉⠦⢄",
        "     │                         ⠉⠢⢄",
        "1.25 ┤                            ⠉⠦⢄",
        "     │                               ⠉⠢⢄⡀",
        "     │                                  ⠉⠢⢄⡀",
        "1.00 ┤                                     ⠉",
        "     └┬────────┬─────────┬────────┬────────┬",
        "      0       25        50       75      100",
    ]


def test_without_braille_nothing_but_ascii_is_written():
    crossed = curve([1.2], style="crosses")
    drawn = draw([chart(falling(), crossed), chart(falling(style="dots"))], 60, is_braille=False)

    assert drawn.plain.isascii()
    assert "x" in drawn.plain
    assert "2.00 +" in drawn.plain


@pytest.mark.parametrize("width", [1, 40, 75, 76, 77, 140])
def test_no_line_is_wider_than_it_may_be(width):
    charts = [chart(falling(), title="a chart with quite a long name indeed, too long"[:38])] * 4

    widths = [len(line) for line in lines_of(*charts, width=width)]

    assert max(widths) <= max(width, 40)
    assert max(widths) >= max(width, 40) - 4


def test_small_charts_stand_side_by_side_where_there_is_room():
    titles = [chart(falling(), title=name) for name in ("first", "second", "third", "fourth")]

    wide = [line.split() for line in lines_of(*titles, width=80)]
    narrow = [line.split() for line in lines_of(*titles, width=60)]

    assert ["second", "steps", "third", "steps"] in wide
    assert ["fourth", "steps"] in wide
    assert ["second", "steps"] in narrow
    assert ["third", "steps"] in narrow


def test_each_run_has_a_colour_that_its_name_has_too():
    drawn = draw([chart(falling("first"), curve([1.0] * 101, label="second"))], 60)

    styles = {str(span.style) for span in drawn.spans}
    assert {"bold cyan", "bold yellow"} <= styles
    assert drawn.plain.split("\n")[:2] == ["⠤⠤⠤ first", "⠤⠤⠤ second"]


def test_without_colours_each_run_has_dashes_of_its_own():
    runs = [curve([float(i)] * 101, label=str(i)) for i in range(3)]

    drawn = draw([chart(*runs)], 60, is_coloured=False)
    first, second, third = (line.split()[0] for line in drawn.plain.split("\n")[:3])

    assert len({first, second, third}) == 3
    assert not {str(span.style) for span in drawn.spans} - {"dim", "bold"}


def test_what_scatters_is_dim_behind_its_line():
    scatter = curve([1.5 + 0.4 * math.sin(i) for i in range(101)], style="faint")

    styles = {str(span.style) for span in draw([chart(scatter, falling())], 60).spans}

    assert {"dim cyan", "bold cyan"} <= styles


def test_without_colours_the_scatter_of_several_runs_is_left_out():
    scatter = [
        curve([1.5 + 0.4 * math.sin(i) for i in range(101)], style="faint", label=label)
        for label in ("a", "b")
    ]
    averages = [curve([1.5] * 101, label=label) for label in ("a", "b")]

    without = lines_of(chart(*scatter, *averages), is_coloured=False)

    # The range is that of all, but only the two averages, in one place, are drawn.
    assert sum(bool(BLOCKS & set(line)) for line in without[3:]) == 1


def test_without_colours_the_scatter_of_one_run_stays():
    scatter = curve([1.5 + 0.4 * math.sin(i) for i in range(101)], style="faint")
    spikes = Curve(label="run", x=[10.0], y=[1.6], style="crosses")

    drawn = lines_of(chart(scatter, curve([1.5] * 101), spikes), is_coloured=False)

    assert sum(bool(BLOCKS & set(line)) for line in drawn[3:]) > 5


def test_skipped_steps_are_crosses_within_the_frame():
    spikes = Curve(label="run", x=[10.0, 50.0, 90.0], y=[99.0, math.nan, 1.5], style="crosses")

    drawn = draw([chart(falling(), spikes)], 60)
    rows = drawn.plain.split("\n")[3:17]

    assert [row.count("×") for row in rows] == [2, *[0] * 5, 1, *[0] * 7]
    assert "bold red" in {str(span.style) for span in drawn.spans}


def test_few_values_are_shown_each():
    few = Curve(label="run", x=[0.0, 50.0, 100.0], y=[1.0, 3.0, 2.0], style="dots")

    assert "".join(lines_of(chart(few))).count("●") == 3


@pytest.mark.parametrize("values", [[2.0], [math.nan], [5.0, 5.0]])
@pytest.mark.parametrize("style", ["line", "faint", "dots"])
def test_one_value_or_none_is_no_error(values, style):
    assert lines_of(chart(curve(values, style=style)))


def test_a_gap_is_not_bridged_by_what_is_not_finite():
    assert lines_of(chart(curve([1.0, math.nan, math.inf, 3.0, 0.0], style="line"), is_log=True))


def test_an_axis_of_factors_gives_each_factor_the_same_room():
    x = [1.0, 10.0, 100.0, 1000.0]
    dots = Curve(label="run", x=x, y=[1.0, 1.0, 1.0, 1.0], style="dots")
    shown = Chart(title="loss", x_label="", x_range=(1.0, 1000.0), curves=[dots], is_log_x=True)

    lines = lines_of(shown, width=67)

    (row,) = [line for line in lines if "●" in line]
    places = [place for place, character in enumerate(row) if character == "●"]
    steps = [second - first for first, second in pairwise(places)]
    assert len(places) == 4
    assert max(steps) - min(steps) <= 1
    assert {"1", "10", "100"} <= set(lines[-1].split())
