"""The definition of `squared_relu_linear` beside its equation."""

import torch
from torch.testing import assert_close

from receptance.ops.squared_relu import squared_relu_linear
from tests.tolerances import ALGEBRA


def test_it_is_the_product_with_the_square_of_what_is_positive():
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    expected = torch.zeros(2, 3, 4, dtype=torch.float64)
    for b, t, out in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)):
        for i in range(5):
            expected[b, t, out] += max(k[b, t, i].item(), 0.0) ** 2 * weight[out, i]
    assert_close(squared_relu_linear(k, weight, implementation="reference"), expected, **ALGEBRA)
