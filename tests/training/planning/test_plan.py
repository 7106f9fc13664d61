"""What a step does is arithmetic, and adds up."""

from itertools import pairwise
from typing import Any

import pytest

from receptance.errors import ConfigError
from receptance.training import (
    marks,
    micro_batch_rows,
    plan_step,
    rows_of_rank,
    samples_before,
    tokens_before,
)
from tests.training.tiny_run import tiny_config

PLANS: list[dict[str, Any]] = [
    {},
    {"data_segments": 3},
    {"data_later_batch_size": 6, "data_later_batch_step": 6},
    {"data_segments": 2, "data_later_batch_size": 10, "data_later_batch_step": 4},
]


@pytest.mark.parametrize("settings", PLANS)
def test_the_steps_add_up_to_what_comes_before_a_step(settings):
    config = tiny_config(**settings)
    tokens = samples = 0
    for step in range(25):
        plan = plan_step(config, step)
        assert tokens_before(config.data, step) == tokens
        assert samples_before(config.data, step) == samples
        tokens += plan.n_tokens
        samples += plan.finished_samples


@pytest.mark.parametrize("settings", PLANS)
def test_a_sample_is_read_from_its_first_segment_to_its_last_by_steps_of_one_batch(settings):
    config = tiny_config(**settings)
    plans = [plan_step(config, step) for step in range(24)]
    n = config.data.segments

    assert [plan.segment for plan in plans] == [step % n for step in range(24)]
    for now, then in pairwise(plans):
        if then.segment:
            assert now.batch_size == then.batch_size
            assert now.finished_samples == 0
        else:
            assert now.finished_samples == now.batch_size


def test_the_batch_grows_at_the_step_that_is_named():
    config = tiny_config(data_later_batch_size=12, data_later_batch_step=5)

    plans = [plan_step(config, step) for step in range(12)]

    assert [plan.batch_size for plan in plans] == [4] * 5 + [12] * 7
    assert [plan.n_tokens for plan in plans] == [64] * 5 + [192] * 7
    assert samples_before(config.data, 7) == 5 * 4 + 2 * 12


def test_the_learning_rate_is_that_of_the_tokens_done():
    config = tiny_config(
        data_later_batch_size=8, data_later_batch_step=4, schedule_constant_steps=2
    )
    # Counted in steps of four sequences, the decay goes from 2 over 4 to 4 + 2·7 = 18.
    rates = [plan_step(config, step).lr for step in range(12)]

    places = [0, 0, 0, 1, 2, 4, 6, 8, 10, 12, 14, 16]
    assert rates == pytest.approx([5e-3 * (1e-3 / 5e-3) ** (p / 16) for p in places], rel=1e-12)


def test_the_marks_are_where_a_run_changes_its_course():
    config = tiny_config(
        training_steps=100,
        schedule_warmup_steps=5,
        schedule_constant_steps=20,
        data_later_batch_size=8,
        data_later_batch_step=25,
    )

    assert marks(config) == {
        0: "first",
        5: "warm-up done",
        25: "decay begins, batch grows",
        50: "middle",
        99: "last",
    }
    assert marks(tiny_config(training_steps=1)) == {0: "first, middle, last"}
    whole = tiny_config(training_steps=9, schedule_warmup_steps=4, schedule_constant_steps=5)
    assert marks(whole) == {0: "first", 4: "warm-up done, middle", 8: "last"}


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_the_rows_of_the_ranks_are_the_batch_in_its_order(world_size):
    shares = [rows_of_rank(12, rank, world_size) for rank in range(world_size)]

    assert [row for share in shares for row in share] == list(range(12))
    assert {len(share) for share in shares} == {12 // world_size}


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="must be multiples of 8, the number of ranks, got 12"):
        rows_of_rank(12, 0, 8)


def test_a_rank_computes_its_rows_in_equal_parts():
    data = tiny_config(data_batch_size=12, data_micro_batch_size=4).data

    assert micro_batch_rows(data, 12) == 4
    assert micro_batch_rows(data, 12, world_size=3) == 4
    assert micro_batch_rows(tiny_config().data, 12, world_size=2) == 6
    with pytest.raises(ConfigError, match="divide the 6 of 12 sequences that each of 2 ranks has"):
        micro_batch_rows(data, 12, world_size=2)
