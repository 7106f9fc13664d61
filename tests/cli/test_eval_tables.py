"""Figures are told so that people can read them."""

import math
from dataclasses import replace

import pytest

from receptance.cli.eval_tables import FIRST_X, position_chart, show, shown
from receptance.evaluation import Bin, Estimate, TaskFigure, position_entries
from tests.evaluation.made_results import make_result

BINS = [
    Bin(1, 1, 20, Estimate(5.0, 4.5, 5.5)),
    Bin(2, 3, 40, Estimate(4.0, 3.5, 4.5)),
    Bin(4, 7, 4, Estimate(3.0, None, None)),
]
RESULT = make_result([500.0] * 20, by_position=position_entries(BINS))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5678, "1,234.568"), (1.5e12, "1.500e+12"), (math.inf, "inf")],
)
def test_a_very_large_figure_is_told_by_its_power_of_ten(value, text):
    assert shown(value, None, None, "{:,.3f}") == text


def test_a_figure_has_its_interval_beside_it():
    assert shown(1.0, 0.5, 2e9, "{:+.1f}") == "+1.0 [+0.5, 2.000e+09]"
    assert shown(1.0, 0.5, 1.5, "{:.1%}", between="\n") == "100.0%\n[50.0%, 150.0%]"


def test_bins_are_rows_with_their_places(capsys):
    show(RESULT)

    rows = [line.replace("│", "").split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "20", "5.0000", "[4.5000,", "5.5000]"] in rows
    assert ["2", "-", "3", "40", "4.0000", "[3.5000,", "4.5000]"] in rows
    assert ["4", "-", "7", "4", "3.0000"] in rows


def test_that_a_text_is_too_short_is_said_once(capsys):
    show(make_result([500.0] * 5))

    assert capsys.readouterr().err == "the text is too short for 95 % intervals\n"
    show(RESULT)
    assert capsys.readouterr().err == ""


def test_the_chart_has_a_point_a_bin_and_the_intervals_there_are():
    chart = position_chart(RESULT)

    line, low, high = chart.curves
    assert (list(line.x), list(line.y)) == ([1.0, math.sqrt(6), math.sqrt(28)], [5.0, 4.0, 3.0])
    assert (list(low.y), list(high.y)) == ([4.5, 3.5], [5.5, 4.5])
    assert list(low.x) == list(line.x[:2])
    assert chart.is_log_x
    assert chart.x_range == (FIRST_X, 7.0)


def test_one_bin_alone_is_a_chart_too():
    chart = position_chart(replace(RESULT, by_position=position_entries(BINS[:1])))

    assert chart.x_range == (FIRST_X, 2.0)


def test_a_task_is_named_once_and_its_figures_have_their_errors(capsys):
    settings = {"tasks": {"of": {"x": {"shots": 2, "items": 9}}}}
    figures = {
        "acc": TaskFigure(value=0.5, stderr=0.25), "perplexity": TaskFigure(value=2e18),
        "beyond": TaskFigure(value=None),
    }  # fmt: skip

    show(replace(RESULT, tokens=None, by_position=None, tasks={"x": figures}, settings=settings))

    rows = [line.replace("│", "").split() for line in capsys.readouterr().out.splitlines()]
    assert ["x", "2", "9", "acc", "0.5000", "±", "0.2500"] in rows
    assert ["perplexity", "2.000e+18"] in rows
    assert ["beyond", "inf"] in rows
    assert not any("bits" in row for row in rows)
