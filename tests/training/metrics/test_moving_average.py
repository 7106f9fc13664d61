"""The average is the weighted mean that its docstring writes down."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.training.metrics.moving_average import MovingAverage

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def averaged(numbers: list[float], memory: int) -> MovingAverage:
    average = MovingAverage()
    for number in numbers:
        average = average.with_value(number, memory)
    return average


@given(values, st.integers(1, 100))
def test_it_is_the_weighted_mean_and_deviation(numbers, memory):
    weights = [(1 - 1 / memory) ** (len(numbers) - 1 - i) for i in range(len(numbers))]
    mean = sum(w * x for w, x in zip(weights, numbers, strict=True)) / sum(weights)
    squares = sum(w * (x - mean) ** 2 for w, x in zip(weights, numbers, strict=True))

    found = averaged(numbers, memory)

    assert found.n_values == len(numbers)
    assert found.mean == pytest.approx(mean, rel=1e-9, abs=1e-9)
    # Squares are rounded to so many of their largest's last digits, and the root is taken of that.
    rounding = math.sqrt(len(numbers) * sys.float_info.epsilon) * max(map(abs, numbers))
    expected = math.sqrt(squares / sum(weights))
    assert found.deviation == pytest.approx(expected, rel=1e-6, abs=rounding)


def test_before_the_first_value_there_is_neither():
    assert (MovingAverage().mean, MovingAverage().deviation) == (0.0, 0.0)


def test_the_first_value_is_the_mean_and_does_not_scatter():
    assert averaged([3.5], 50).mean == 3.5
    assert averaged([3.5], 50).deviation == 0.0


def test_old_values_are_forgotten():
    average = averaged([1000.0] + [2.0] * 500, 20)

    assert average.mean == pytest.approx(2.0)
    assert average.weight == pytest.approx(20.0)
