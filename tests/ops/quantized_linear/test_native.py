"""The native product with 4 and 8 bit weights against the reference, in every instruction set."""

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.quantized_linear import (
    QuantizedFormat,
    QuantizedWeight,
    pack_weight,
    quantized_input,
    quantized_linear,
)
from receptance.ops.quantized_linear.native import native_obstacle, quantized_linear_native
from receptance.ops.quantized_linear.reference import quantized_linear_reference

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

FORMATS = [
    QuantizedFormat(bits=bits, group_size=group_size, has_offset=has_offset)
    for bits, group_size, has_offset in itertools.product((4, 8), (32, 64, 128), (False, True))
]
SHAPES = ((1, 1), (32, 128), (33, 31), (75, 200))
COUNTS = (1, 2, 3, 5, 6, 7, 16, 33, 600)


class Case(NamedTuple):
    weight: QuantizedWeight
    magnitude: Tensor  # of each weight: |scale (q - z)| + |offset|


def make_case(n_out: int, n_in: int, format: QuantizedFormat) -> Case:
    generator = torch.Generator().manual_seed(0)
    groups = format.n_groups(n_in)
    least, most = (0, 16) if format.bits == 4 else (1, 256)
    levels = torch.randint(least, most, (n_out, n_in), generator=generator, dtype=torch.uint8)
    scales = torch.rand(n_out, groups, generator=generator).bfloat16().float()
    offsets = torch.randn(n_out, groups, generator=generator).bfloat16().float()
    if not format.has_offset:
        offsets.zero_()

    def widened(numbers: Tensor) -> Tensor:
        return numbers.repeat_interleave(format.group_size, dim=1)[:, :n_in].double()

    steps = levels.double() - format.zero_level
    magnitude = widened(scales) * steps.abs() + widened(offsets).abs()
    weight = pack_weight(levels, scales, offsets if format.has_offset else None, format)
    return Case(weight, magnitude)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def run(x: Tensor, weight: QuantizedWeight, instruction_set: str) -> Tensor:
    format = weight.format
    return torch.ops.receptance.quantized_linear(
        *(x, weight.data, weight.n_out, format.bits, format.group_size, format.has_offset),
        instruction_sets()[instruction_set],
    )


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize(("n_out", "n_in"), SHAPES)
def test_it_is_the_reference_but_for_rounding(n_out, n_in, format, instruction_set):
    weight, magnitude = make_case(n_out, n_in, format)
    for n_rows in (0, 1, 2, 5, 9):
        x = normal(n_rows, n_in)
        found = run(x, weight, instruction_set)
        # A block's sum is exact. It is scaled and added with at most four roundings, and its offset
        # with as many; so is a weight with an offset when the reference dequantizes it.
        n_roundings = 8 * (n_in // 32 + 1) + 2
        bound = n_roundings * 2.0**-24 * (quantized_input(x).double().abs() @ magnitude.T)
        error = found.double() - quantized_linear_reference(x, weight).double()
        assert (error.abs() <= bound).all()


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_a_row_has_the_same_bits_in_any_company(format, instruction_set):
    weight, _ = make_case(75, 200, format)
    x = normal(600, 200)
    together = run(x, weight, instruction_set)
    for count in COUNTS:
        assert torch.equal(run(x[-count:], weight, instruction_set), together[-count:])
    order = torch.randperm(600, generator=torch.Generator().manual_seed(2))
    assert torch.equal(run(x[order], weight, instruction_set), together[order])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_all_sets_that_fuse_products_and_sums_give_the_same_bits(format):
    weight, _ = make_case(75, 200, format)
    x = normal(5, 200)
    found = [run(x, weight, each) for each in instruction_sets() if each != "portable"]
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.usefixtures("_restored_threads")
def test_bits_do_not_depend_on_the_number_of_threads():
    weight, _ = make_case(300, 200, FORMATS[0])
    x = normal(33, 200)
    torch.set_num_threads(1)
    alone = quantized_linear_native(x, weight)
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        assert torch.equal(quantized_linear_native(x, weight), alone)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-39, 1.4e-36, 1e-30, 1e30])
def test_inputs_of_every_size_are_rounded_as_the_reference_does(size, instruction_set):
    weight, magnitude = make_case(20, 70, FORMATS[-1])
    x = size * normal(3, 70)
    found = run(x, weight, instruction_set).double()
    error = (found - quantized_linear_reference(x, weight).double()).abs()
    # What is below the smallest normal number is 0 or rounded to multiples of 2^-149.
    assert (error <= 1e-5 * (quantized_input(x).double().abs() @ magnitude.T) + 2e-42).all()
    assert found.any() == (size > 1e-36)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("format", FORMATS[::5], ids=str)
def test_what_is_not_finite_stays_in_its_row_which_has_no_number_left(
    format, wrong, instruction_set
):
    weight, _ = make_case(35, 70, format)
    x = normal(9, 70)
    clean = run(x, weight, instruction_set)
    x[4, 69] = wrong
    y = run(x, weight, instruction_set)
    assert y[4].isnan().all()
    others = [row for row in range(9) if row != 4]
    assert torch.equal(y[others], clean[others])


def test_tensors_that_are_not_contiguous_are_read_right():
    weight, _ = make_case(35, 20, FORMATS[0])
    x = normal(6, 4, 20)
    expected = quantized_linear_native(x, weight)
    strided = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(quantized_linear_native(strided, weight), expected)
    assert torch.equal(quantized_linear_native(x[::2, 1:3], weight), expected[::2, 1:3])


WRONG_ARGUMENTS = [
    ({"x": torch.zeros(2, 64)}, r"`weight` must have the shape \[1, 2, 1088\], got \[1, 1, 1088\]"),
    ({"x": torch.zeros(2, 32).double()}, "`x` must have the dtype Float, got Double"),
    ({"x": torch.zeros(())}, "`x` must have at least one axis"),
    ({"weight": torch.zeros(1, 1, 1088)}, "`weight` must have the dtype Byte, got Float"),
    ({"n_out": 33}, r"`weight` must have the shape \[2, 1, 1088\], got \[1, 1, 1088\]"),
    ({"bits": 5}, "`bits` must be 4 or 8 and `group` a multiple of 32, got 5 and 32"),
    ({"group": 48}, "`bits` must be 4 or 8 and `group` a multiple of 32, got 8 and 48"),
    ({"has_offset": True}, r"`weight` must have the shape \[1, 1, 1152\], got \[1, 1, 1088\]"),
    ({"instruction_set": 9}, "`instruction_set` must be 0"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_ARGUMENTS)
def test_the_op_refuses_what_it_cannot_read(wrong, message):
    arguments = {
        "x": torch.zeros(2, 32),
        "weight": torch.zeros(1, 1, 1088, dtype=torch.uint8),
        "n_out": 5,
        "bits": 8,
        "group": 32,
        "has_offset": False,
    }
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.quantized_linear(**arguments | wrong)


def test_obstacles_say_what_stands_in_the_way():
    weight, _ = make_case(5, 32, FORMATS[0])
    x = torch.zeros(2, 32)
    assert "a tensor is on meta" in str(native_obstacle(x.to("meta"), weight))
    assert native_obstacle(x.requires_grad_(), weight) is None


def test_autocast_changes_nothing_of_a_product_of_integers():
    weight, _ = make_case(35, 40, FORMATS[0])
    x = normal(3, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantized_linear(x, weight)
    assert torch.equal(found, quantized_linear_native(x, weight))


@pytest.mark.parametrize("format", FORMATS[:2], ids=str)
def test_pytorch_finds_nothing_wrong_with_the_op(format):
    weight, _ = make_case(5, 40, format)
    arguments = (normal(2, 3, 40), weight.data, 5, format.bits, format.group_size)
    torch.library.opcheck(
        torch.ops.receptance.quantized_linear.default, (*arguments, format.has_offset)
    )
