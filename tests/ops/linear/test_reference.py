"""The definition of `linear` beside its equation."""

import torch
from torch.testing import assert_close

from receptance.ops.linear import linear
from tests.tolerances import ALGEBRA


def test_it_is_the_sum_over_the_columns_of_each_row():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    expected = sum(x[..., k, None] * weight[:, k] for k in range(5))
    assert_close(linear(x, weight, implementation="reference"), expected, **ALGEBRA)
