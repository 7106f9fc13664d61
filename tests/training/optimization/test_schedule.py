"""The learning rate is the paper's, and a function of the step alone."""

import math
from itertools import pairwise

import pytest

from receptance.errors import ConfigError
from receptance.training import learning_rate
from receptance.training.optimization.schedule import ScheduleConfig


def test_the_paper_s_is_constant_and_then_exponential_in_the_part_done():
    config = ScheduleConfig(kind="exponential", final_lr=1e-5, constant_steps=361)
    lr, n_steps = 6e-4, 8043

    rates = [learning_rate(config, lr, step, n_steps) for step in range(n_steps)]

    assert rates[:362] == [lr] * 362
    for step in (500, 4000, 8000):
        p = (step - 361) / (n_steps - 1 - 361)
        assert rates[step] == pytest.approx(lr * (1e-5 / lr) ** p, rel=1e-12)
    assert rates[-1] == pytest.approx(1e-5, rel=1e-12)
    assert all(later < earlier for earlier, later in pairwise(rates[361:]))


def test_half_way_an_exponential_is_the_geometric_mean_of_its_ends():
    config = ScheduleConfig(kind="exponential", final_lr=1e-5)

    assert learning_rate(config, 1e-3, 50, 101) == pytest.approx(1e-4, rel=1e-12)


def test_half_way_a_cosine_is_the_mean_of_its_ends():
    config = ScheduleConfig(kind="cosine", final_lr=1e-4)

    assert learning_rate(config, 1e-3, 50, 101) == pytest.approx(5.5e-4, rel=1e-12)
    assert learning_rate(config, 1e-3, 25, 101) == pytest.approx(
        1e-4 + 9e-4 * (1 + math.cos(math.pi / 4)) / 2, rel=1e-12
    )


def test_a_linear_decay_falls_by_as_much_in_every_step():
    config = ScheduleConfig(kind="linear", final_lr=1e-4, constant_steps=10)

    rates = [learning_rate(config, 1e-3, step, 20) for step in range(20)]

    assert rates[:11] == [1e-3] * 11
    assert rates[10:] == pytest.approx([1e-3 - 1e-4 * step for step in range(10)], rel=1e-12)


def test_a_constant_schedule_stays_at_its_peak():
    config = ScheduleConfig(kind="constant", warmup_steps=2)

    rates = [learning_rate(config, 1e-3, step, 9) for step in range(9)]

    assert rates == [5e-4, *[1e-3] * 8]


@pytest.mark.parametrize("kind", ["exponential", "cosine", "linear"])
def test_the_part_done_is_counted_in_tokens(kind):
    config = ScheduleConfig(kind=kind, final_lr=1e-4, constant_steps=10)

    def tokens_before(step: int) -> int:
        return 8 * min(step, 50) + 16 * max(step - 50, 0)

    def rate(step: int) -> float:
        return learning_rate(config, 1e-3, step, 101, tokens_before=tokens_before)

    # The steps after the 50th count double, so the run is as long as one of 151 steps.
    alike = [learning_rate(config, 1e-3, step, 151) for step in range(151)]
    assert [rate(step) for step in range(51)] == alike[:51]
    assert [rate(step) for step in range(50, 101)] == alike[50::2]


@pytest.mark.parametrize("kind", ["exponential", "cosine", "linear"])
def test_the_warm_up_rises_linearly_to_the_peak_and_the_last_step_has_the_final_rate(kind):
    config = ScheduleConfig(kind=kind, final_lr=1e-4, warmup_steps=4, constant_steps=3)

    rates = [learning_rate(config, 1e-3, step, 30) for step in range(30)]

    assert rates[:4] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3], rel=1e-12)
    assert rates[4:8] == [1e-3] * 4
    assert rates[8] < 1e-3
    assert rates[-1] == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize("kind", ["exponential", "cosine", "linear"])
def test_a_run_of_one_step_takes_it_at_the_peak(kind):
    assert learning_rate(ScheduleConfig(kind=kind), 1e-3, 0, 1) == 1e-3


@pytest.mark.parametrize("kind", ["exponential", "cosine", "linear"])
def test_a_run_that_ends_before_its_decay_stays_within_its_peak(kind):
    config = ScheduleConfig(kind=kind, warmup_steps=5, constant_steps=50)

    rates = [learning_rate(config, 1e-3, step, 10) for step in range(10)]

    assert rates[0] == pytest.approx(2e-4)
    assert rates[5:] == [1e-3] * 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"final_lr": 0.0}, "`schedule.final_lr` must be above 0, got 0.0"),
        ({"warmup_steps": -1}, "`schedule.warmup_steps` must not be negative, got -1"),
        ({"constant_steps": -2}, "`schedule.constant_steps` must not be negative, got -2"),
    ],
)
def test_an_impossible_setting_is_named(settings, words):
    with pytest.raises(ConfigError) as caught:
        ScheduleConfig(**settings)
    assert str(caught.value) == words
