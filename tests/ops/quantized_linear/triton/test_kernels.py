"""The kernels of the product with 4 and 8 bit weights against the reference, between guards."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.quantized_linear import QuantizedFormat, QuantizedWeight, pack_weight
from receptance.ops.quantized_linear.reference import quantized_linear_reference
from receptance.ops.quantized_linear.triton import quantized_linear_triton

pytestmark = pytest.mark.usefixtures("_guarded_memory")

FORMATS = [
    QuantizedFormat(bits=bits, group_size=group_size, has_offset=has_offset)
    for bits, group_size, has_offset in itertools.product((4, 8), (32, 64, 128), (False, True))
]
SHAPES = ((1, 1), (32, 128), (33, 31), (75, 200))


def packed(n_out: int, n_in: int, format: QuantizedFormat, device: str) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(0)
    groups = format.n_groups(n_in)
    least, most = (0, 16) if format.bits == 4 else (1, 256)
    levels = torch.randint(least, most, (n_out, n_in), generator=generator, dtype=torch.uint8)
    scales = torch.rand(n_out, groups, generator=generator)
    offsets = torch.randn(n_out, groups, generator=generator) if format.has_offset else None
    weight = pack_weight(levels, scales, offsets, format)
    return QuantizedWeight(weight.data.to(device), format, n_out, n_in)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_agrees(x: Tensor, weight: QuantizedWeight) -> None:
    expected = quantized_linear_reference(x, weight)
    # The reference rounds once; here the sums of a block are exact, and those over the blocks round
    # in float32 (seen: 3e-7 of the largest).
    atol = 2e-6 * expected.abs().max().item()
    assert_close(quantized_linear_triton(x, weight), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_every_format_agrees_with_the_reference(format, shape, triton_device):
    n_out, n_in = shape
    assert_agrees(normal(3, n_in).to(triton_device), packed(n_out, n_in, format, triton_device))


@pytest.mark.parametrize("M", [1, 2, 15, 16, 17, 63, 64, 65, 257])
def test_any_number_of_rows_agrees_with_the_reference(M, triton_device):
    weight = packed(33, 70, QuantizedFormat(4, 32, True), triton_device)
    assert_agrees(normal(M, 70).to(triton_device), weight)


def test_halves_are_rounded_to_even_and_small_blocks_to_zero(triton_device):
    x = torch.zeros(1, 96)
    x[0, :4] = torch.tensor([127.0, 0.5, 1.5, -2.5])  # the scale is 1
    x[0, 32:64] = 1e-38  # a subnormal scale
    weight = packed(40, 96, QuantizedFormat(8, 32), triton_device)
    rounded = torch.zeros(1, 96)
    rounded[0, :4] = torch.tensor([127.0, 0.0, 2.0, -2.0])
    found = quantized_linear_triton(x.to(triton_device), weight)
    assert_agrees(x.to(triton_device), weight)
    assert torch.equal(found, quantized_linear_triton(rounded.to(triton_device), weight))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows_in_its_row_alone(value, triton_device):
    x = normal(3, 70).to(triton_device)
    weight = packed(33, 70, QuantizedFormat(4, 64), triton_device)
    alone = quantized_linear_triton(x, weight)
    x[1, 40] = value
    found = quantized_linear_triton(x, weight)
    assert found[1].isnan().all()
    assert torch.equal(found[::2], alone[::2])


def test_a_row_is_the_same_in_any_company(triton_device):
    x = normal(20, 70).to(triton_device)
    weight = packed(33, 70, QuantizedFormat(8, 32, True), triton_device)
    together = quantized_linear_triton(x, weight)
    for i in (0, 7, 19):
        assert torch.equal(quantized_linear_triton(x[i], weight), together[i])
