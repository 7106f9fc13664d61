"""The time left counts all that a run still does, as long as it took lately."""

import pytest

from receptance.training.metrics.time_left import TimeLeft, n_due


def test_steps_validations_and_saves_count_as_often_as_they_are_due():
    left = TimeLeft()
    for _ in range(3):
        left.took("step", 2.0)
        left.took("validation", 10.0)

    assert left.seconds(step=100, validation=4) == pytest.approx(240.0)
    assert left.seconds(step=0) == 0.0


def test_what_was_never_done_counts_nothing():
    left = TimeLeft()
    left.took("step", 2.0)

    assert left.seconds(step=5, saving=7) == 10.0


def test_the_first_of_a_kind_counts_until_there_is_a_second():
    left = TimeLeft()
    left.took("step", 60.0)
    assert left.seconds(step=1) == 60.0

    left.took("step", 1.0)
    assert left.seconds(step=1) == 1.0

    left.took("step", 2.0)
    assert left.seconds(step=1) == pytest.approx(1.5, rel=0.02)


def test_a_run_that_becomes_slower_is_seen_to():
    left = TimeLeft()
    for seconds in [1.0] * 100 + [4.0] * 300:
        left.took("step", seconds)

    assert left.seconds(step=1) == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize("every", [0, 1, 3, 4, 7, 12, 100])
@pytest.mark.parametrize("n_steps", [1, 11, 12])
def test_what_is_still_due_is_counted_as_the_loop_does_it(every, n_steps):
    for step in range(n_steps + 1):
        due = [
            each
            for each in range(step + 1, n_steps + 1)
            if every and (each % every == 0 or each == n_steps)
        ]
        assert n_due(step, n_steps, every) == len(due)
