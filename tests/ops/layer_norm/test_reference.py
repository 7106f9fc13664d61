"""The definition of `layer_norm` beside its equation."""

import torch
from torch.testing import assert_close

from receptance.ops.layer_norm import layer_norm
from tests.tolerances import ALGEBRA


def test_rows_have_mean_0_and_variance_1_before_they_are_scaled_and_shifted():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 3, 7), (7,), (7,))
    )
    deviation = x - x.mean(-1, keepdim=True)
    variance = deviation.square().sum(-1, keepdim=True) / 7
    expected = deviation / (variance + 0.25).sqrt() * weight + bias
    found = layer_norm(x, weight, bias, eps=0.25, implementation="reference")
    assert_close(found, expected, **ALGEBRA)
