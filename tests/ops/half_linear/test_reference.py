"""The definitions of `half_linear` and `half_square` beside their equations."""

import torch
from torch.testing import assert_close

from receptance.ops.half_linear import half_linear, half_square, half_squared_relu_linear
from tests.tolerances import FLOAT32


def test_it_is_the_product_of_what_is_rounded_to_float16_and_its_sums_are_not():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, generator=generator)
    weight = torch.randn(4, 5, generator=generator).half()
    expected = torch.einsum("btk,nk->btn", x.half().double(), weight.double())
    found = half_linear(x, weight, implementation="reference")
    assert found.dtype == torch.float32
    assert_close(found.double(), expected, **FLOAT32)


def test_the_square_is_of_a_sixteenth_and_rounded_once():
    k = torch.linspace(-300, 4094, 999)
    expected = (k.clamp(min=0).double() / 16) ** 2
    found = half_square(k, implementation="reference")
    assert found.dtype == torch.float16
    assert torch.equal(found, expected.half())
    assert found.isfinite().all()


def test_the_product_with_the_square_has_the_scale_of_the_square():
    k = torch.tensor([[-5.0, 3.0, 1000.0]])
    weight = torch.tensor([[7.0, 2.0, 1.0], [1.0, 1.0, -2.0]]).half()
    expected = torch.tensor([[18.0 + 1e6, 9.0 - 2e6]])
    assert_close(half_squared_relu_linear(k, weight), expected, rtol=2.0**-11, atol=0)
