"""What is timed takes turns, and is told of by its median."""

import pytest

from receptance.benchmark import Timed, alternate


def test_cases_take_turns_forward_and_backward():
    calls: list[str] = []
    a, b = (Timed(lambda name=name: calls.append(name)) for name in "ab")
    told: list[str] = []

    alternate([a, b, a], 3, told.append)

    assert "".join(calls) == "aba" * 3
    assert (len(a.seconds), len(b.seconds)) == (6, 3)
    assert told == ["round 1 of 3", "round 2 of 3", "round 3 of 3"]

    calls.clear()
    alternate([a, b], 2)
    assert "".join(calls) == "abba"


def test_the_figures_are_the_median_and_the_range_beside_it():
    timed = Timed(lambda: None, [4.0, 1.0, 2.0])

    assert timed.median_s == 2.0
    assert timed.spread == pytest.approx(1.5)


def test_each_run_is_compared_with_the_other_s_nearest_in_time():
    fast = Timed(lambda: None, seconds=[1.0, 1.0, 4.0], began=[0.0, 10.0, 20.0])
    slow = Timed(lambda: None, seconds=[3.0, 12.0], began=[1.0, 19.0])

    assert fast.times_shorter_than(slow) == pytest.approx(3.0)  # of 3, 3 or 12, and 3
    assert fast.times_shorter_than(fast) == 1.0
