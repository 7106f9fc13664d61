"""A chart shows what matters, and no spike is lost in a thinned curve."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.plotting import Chart, Curve, smoothed
from receptance.plotting.chart import thinned


def curve(y: list[float], style: str = "line") -> Curve:
    return Curve(label="run", x=[float(i) for i in range(len(y))], y=y, style=style)


def chart(*curves: Curve, **shown: Any) -> Chart:
    end = max(curve.x[-1] for curve in curves)
    return Chart(title="y", x_label="x", x_range=(0.0, end), curves=curves, **shown)


def test_the_range_holds_all_values_with_a_margin():
    assert chart(curve([1.0, 3.0, 2.0])).y_range() == pytest.approx((0.9, 3.1))


def test_the_range_of_factors_has_a_factor_as_margin():
    low, high = chart(curve([1.0, 0.0, 100.0]), is_log=True).y_range()

    assert (low, high) == pytest.approx((100**-0.05, 100**1.05))


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [0.0, 0.0], [math.nan], []])
@pytest.mark.parametrize("is_log", [True, False])
def test_there_is_a_range_even_without_two_values(values, is_log):
    shown = Chart(title="y", x_label="x", x_range=(0.0, 1.0), curves=[curve(values)], is_log=is_log)
    low, high = shown.y_range()

    assert low < high
    assert low > 0 or not is_log


def test_a_zoomed_range_leaves_out_the_first_fall_and_outliers_of_faint_values():
    values = [100.0 - index for index in range(30)] + [2.0, 1.0] * 500
    values[700] = 50.0
    falling = chart(curve(values, "faint"), is_zoomed=True)

    assert falling.y_range() == pytest.approx((0.95, 2.05))
    assert chart(curve(values, "faint")).y_range()[1] > 100


def test_a_zoomed_range_holds_all_of_a_line_after_the_beginning():
    values = [9.0] * 10 + [1.0] * 1000
    values[700] = 5.0

    assert chart(curve(values), is_zoomed=True).y_range() == pytest.approx((0.8, 5.2))


def test_crosses_widen_no_range():
    shown = chart(curve([1.0, 2.0]), Curve(label="run", x=[0.5], y=[99.0], style="crosses"))

    assert shown.y_range()[1] < 3


def test_what_is_not_finite_or_has_no_logarithm_is_no_point():
    values = curve([1.0, math.nan, math.inf, -1.0, 0.0])

    assert [y for _, y in chart(values).points(values)] == [1.0, -1.0, 0.0]
    assert [y for _, y in chart(values, is_log=True).points(values)] == [1.0]


def test_a_short_curve_is_not_thinned():
    short = curve([1.0] * 40)

    assert thinned(short, 10) is short


@given(st.lists(st.floats(-1e6, 1e6), min_size=50, max_size=100))
def test_a_thinned_curve_keeps_its_ends_and_its_extremes(values):
    found = thinned(curve(values, "faint"), 5)

    assert len(found.x) <= 4 * 6
    assert list(found.x) == sorted(set(found.x))
    assert (found.y[0], found.y[-1]) == (values[0], values[-1])
    assert (min(found.y), max(found.y)) == (min(values), max(values))
    assert all(y == values[int(x)] for x, y in zip(found.x, found.y, strict=True))
    assert found.style == "faint"


def test_a_smoothed_line_neither_lags_nor_leads():
    rising = smoothed(curve([float(i) for i in range(1001)]))

    assert rising.y[500] == pytest.approx(500.0)
    assert 0 < rising.y[0] == pytest.approx(1000.0 - rising.y[-1])


def test_a_smoothed_line_weighs_each_value_by_its_distance():
    impulse = [0.0] * 21
    impulse[10] = 1.0

    y = smoothed(curve(impulse)).y

    kept = 1 - 1 / 4.0  # the least memory, for so few values
    weights = sum(kept ** abs(10 - j) for j in range(21))
    assert y[10] == pytest.approx(1 / weights)
    assert y[8] == pytest.approx(kept**2 / sum(kept ** abs(8 - j) for j in range(21)))


def test_the_scatter_of_a_smoothed_line_is_small():
    y = smoothed(curve([2.0 + 0.1 * (-1) ** i for i in range(1000)])).y

    assert max(y) - min(y) < 0.02


def test_factors_are_averaged_as_factors():
    y = smoothed(curve([0.1, 10.0] * 200), is_log=True).y

    assert y[200] == pytest.approx(1.0, rel=0.3)


def test_gaps_are_left_out_of_a_smoothed_line():
    found = smoothed(curve([1.0, math.nan, 1.0, -1.0]), is_log=True)

    assert found.x == [0.0, 2.0]
    assert found.y == pytest.approx([1.0, 1.0])
