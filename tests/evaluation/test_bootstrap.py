"""An interval is as wide as the spread of the blocks says."""

import pytest
import torch

from receptance.evaluation.bootstrap import MIN_BLOCKS, estimate, totals


def test_the_interval_of_a_mean_is_nearly_that_of_its_standard_error():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, generator=generator, dtype=torch.float64)

    value, low, high = estimate(totals(values[:, None])[:, 0] / len(values))

    assert value == pytest.approx(float(values.mean()))
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(2 * 1.96 * float(values.std()) / 400**0.5, rel=0.08)


def test_too_few_blocks_have_a_value_and_no_interval():
    ones = torch.ones(MIN_BLOCKS, 1, dtype=torch.float64)

    assert estimate(totals(ones[1:])[:, 0]) == (MIN_BLOCKS - 1, None, None)
    assert estimate(totals(ones)[:, 0]) == (MIN_BLOCKS, MIN_BLOCKS, MIN_BLOCKS)


def test_all_columns_have_the_same_draws():
    column = torch.arange(20, dtype=torch.float64)[:, None]

    first, second = totals(torch.cat([column, 3 * column], dim=1)).unbind(1)

    assert torch.equal(3 * first, second)
