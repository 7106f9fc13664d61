"""The gradient of the product with rounded factors is that of the product with x as it is."""

import itertools

import pytest
import torch
from torch import Tensor

from receptance.ops.quantized_linear import (
    IMPLEMENTATIONS,
    QuantizedFormat,
    QuantizedWeight,
    dequantize,
    input_gradient,
    pack_weight,
    quantized_linear,
    straight_through,
)

FORMATS = [QuantizedFormat(bits, 32, has) for bits, has in itertools.product((4, 8), (False, True))]
N, K = 75, 70
BATCH = (2, 3)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_weight(format: QuantizedFormat) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(1, 16, (N, K), generator=generator, dtype=torch.uint8)
    offsets = normal(N, 3, seed=3) if format.has_offset else None
    return pack_weight(levels, normal(N, 3, seed=2), offsets, format)


def gradient(x: Tensor, weight: QuantizedWeight, dy: Tensor, implementation: str) -> Tensor:
    x = x.clone().requires_grad_()
    quantized_linear(x, weight, implementation=implementation).backward(dy)
    assert x.grad is not None
    return x.grad


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("implementation", [each.name for each in IMPLEMENTATIONS])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_it_is_autograds_with_the_rounding_taken_as_the_identity(format, implementation):
    weight, x, dy = make_weight(format), normal(*BATCH, K), normal(*BATCH, N, seed=4)
    wide = x.double().requires_grad_()
    (wide @ dequantize(weight).double().T).backward(dy.double())
    assert wide.grad is not None

    found = gradient(x, weight, dy, implementation)

    # N products and sums in float32, each rounded once.
    bound = 2 * N * 2.0**-24 * (dy.double().abs() @ dequantize(weight).double().abs())
    assert ((found.double() - wide.grad).abs() <= bound).all()
    assert found.dtype == torch.float32


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("implementation", [each.name for each in IMPLEMENTATIONS])
def test_the_product_has_the_bits_that_it_has_without_a_gradient(implementation):
    weight, x = make_weight(FORMATS[0]), normal(*BATCH, K)
    expected = quantized_linear(x, weight, implementation=implementation)
    found = quantized_linear(x.clone().requires_grad_(), weight, implementation=implementation)
    assert found.requires_grad
    assert torch.equal(found, expected)


def test_parts_of_the_rows_give_the_gradient_of_all(monkeypatch):
    weight, dy = make_weight(FORMATS[1]), normal(*BATCH, N)
    whole = input_gradient(dy, weight, torch.float32)
    monkeypatch.setattr(straight_through, "CHUNK_WEIGHTS", 1)  # a panel at a time
    torch.testing.assert_close(input_gradient(dy, weight, torch.float32), whole)


def test_under_autocast_the_factors_of_the_gradient_are_in_its_dtype():
    weight, x, dy = make_weight(FORMATS[0]), normal(*BATCH, K), normal(*BATCH, N)
    with torch.autocast("cpu", torch.bfloat16):
        y = quantized_linear(x.requires_grad_(), weight)
    y.backward(dy)
    assert y.dtype == torch.float32
    assert x.grad is not None
    assert torch.equal(x.grad, input_gradient(dy, weight, torch.bfloat16))
    exact = input_gradient(dy, weight, torch.float32)
    # Each factor, and the sum of a part, is rounded to 8 bits.
    bound = 3 * 2.0**-8 * (dy.abs() @ dequantize(weight).abs())
    assert ((x.grad - exact).abs() <= bound).all()


def test_nothing_is_kept_for_backward_but_the_packed_weight():
    weight, kept = make_weight(FORMATS[0]), []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        quantized_linear(normal(*BATCH, K).requires_grad_(), weight)
    assert [each.data_ptr() for each in kept] == [weight.data.data_ptr()]
