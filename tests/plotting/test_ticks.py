"""The numbers of an axis are round, few and short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.plotting.ticks import tick_labels, ticks


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0, 700, 5, ["0", "200", "400", "600"]),
        (0.83, 2.41, 4, ["1.0", "1.5", "2.0"]),
        (0, 4e-3, 5, ["0", "1e-3", "2e-3", "3e-3", "4e-3"]),
        (0, 2.4e-3, 5, ["0", "5e-4", "1e-3", "1.5e-3", "2e-3"]),
        (0, 60_000, 3, ["0", "20k", "40k", "60k"]),
        (0, 2_000_000, 4, ["0", "0.5M", "1.0M", "1.5M", "2.0M"]),
        (0, 332e9, 3, ["0", "100B", "200B", "300B"]),
        (0, 2e12, 2, ["0", "1T", "2T"]),
        (-1.5, 1.5, 3, ["-1", "0", "1"]),
    ],
)
def test_an_even_axis_has_even_numbers(low, high, n, expected):
    assert tick_labels(ticks(float(low), float(high), n)) == expected


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0.3, 2000, 5, ["1", "10", "100", "1000"]),
        (0.25, 140, 5, ["0.3", "1", "3", "10", "30", "100"]),
        (0.28, 5.5, 5, ["0.5", "1", "2", "5"]),
        (0.22, 0.91, 5, ["0.3", "0.4", "0.5", "0.7"]),
        (1e-9, 1e9, 3, ["1e-9", "1e-4", "10", "1M"]),
        (2.0, 4.0, 4, ["2.0", "2.5", "3.0", "3.5", "4.0"]),
    ],
)
def test_an_axis_that_grows_by_factors_has_powers_of_ten_and_parts_of_them(low, high, n, expected):
    assert tick_labels(ticks(low, float(high), n, is_log=True), is_log=True) == expected


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9), st.integers(2, 8), st.booleans())
def test_every_number_is_within_the_axis_and_there_are_some_but_not_many(low, span, n, is_log):
    low = abs(low) + 1e-6 if is_log else low
    high = low + span
    if high - low < 1e-3 * abs(low):
        return  # no axis is that short

    found = ticks(low, high, n, is_log=is_log)

    assert found == sorted(set(found))
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in found)
    assert len(found) <= 2 * n + 1
    assert found or is_log or n < 3
    assert len(set(tick_labels(found, is_log=is_log))) == len(found)


def test_no_numbers_have_no_labels():
    assert tick_labels([]) == []
