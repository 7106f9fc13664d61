"""The native LayerNorm against the reference, in every instruction set."""

import pytest
import torch
from torch import Tensor

from receptance.ops.layer_norm.native import layer_norm_native, native_obstacle
from receptance.ops.layer_norm.reference import layer_norm_reference
from receptance.ops.native import instruction_sets, library_obstacle

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

EPS = 1e-5


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of(n_rows: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return 1 + 3 * normal(n_rows, width, seed=0), normal(width, seed=1), normal(width, seed=2)


def run(x: Tensor, weight: Tensor, bias: Tensor, instruction_set: str) -> Tensor:
    number = instruction_sets()[instruction_set]
    return torch.ops.receptance.layer_norm(x, weight, bias, EPS, number)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("width", [2, 15, 16, 17, 65, 768, 1031])
def test_it_is_the_reference_but_for_rounding(width, instruction_set):
    for n_rows in (0, 1, 5):
        arrays = rows_of(n_rows, width)
        x, weight, bias = (each.double() for each in arrays)
        exact = layer_norm_reference(x, weight, bias, EPS)
        found = run(*arrays, instruction_set)
        # Mean and spread are sums of 16 or more lanes, good to a few units in the last place of a
        # row of order 1 to 10; two operations follow (seen: 1.5e-6).
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_a_row_has_the_same_bits_in_any_company(instruction_set):
    x, weight, bias = rows_of(600, 77)
    together = run(x, weight, bias, instruction_set)
    for count in (1, 2, 3, 5, 6, 7, 16, 33):
        assert torch.equal(run(x[-count:], weight, bias, instruction_set), together[-count:])


@pytest.mark.usefixtures("_restored_threads")
def test_bits_do_not_depend_on_the_number_of_threads():
    arrays = rows_of(600, 77)
    torch.set_num_threads(1)
    alone = layer_norm_native(*arrays, EPS)
    torch.set_num_threads(3)
    assert torch.equal(layer_norm_native(*arrays, EPS), alone)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_row(wrong, instruction_set):
    x, weight, bias = rows_of(5, 33)
    clean = run(x, weight, bias, instruction_set)
    x[2, 32] = wrong
    y = run(x, weight, bias, instruction_set)
    assert y[2].isnan().all()
    assert torch.equal(y[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])


def test_a_row_of_one_number_is_the_bias():
    x, weight, bias = rows_of(3, 1)
    constant = x[:1].expand(3, 1)
    assert torch.equal(layer_norm_native(constant, weight, bias, EPS), bias.expand(3, 1))


def test_tensors_that_are_not_contiguous_are_read_right():
    x, weight, bias = rows_of(6, 20)
    expected = layer_norm_native(x, weight, bias, EPS)
    found = layer_norm_native(
        x.t().contiguous().t(), weight.repeat_interleave(2)[::2], bias.flip(0).flip(0), EPS
    )
    assert torch.equal(found, expected)
    assert torch.equal(layer_norm_native(x.view(2, 3, 20), weight, bias, EPS).view(6, 20), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": torch.zeros(2, 3).double()}, "`x` must have the dtype Float, got Double"),
        ({"x": torch.zeros(())}, "`x` must have at least one axis"),
        ({"weight": torch.zeros(4)}, r"`weight` must have the shape \[3\], got \[4\]"),
        ({"bias": torch.zeros(3).bfloat16()}, "`bias` must have the dtype Float, got BFloat16"),
        ({"instruction_set": 9}, "`instruction_set` must be 0"),
    ],
)
def test_the_op_refuses_what_it_cannot_read(wrong, message):
    arguments = {"x": torch.zeros(2, 3), "weight": torch.zeros(3), "bias": torch.zeros(3)}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.layer_norm(**arguments | {"eps": EPS} | wrong)


def test_obstacles_say_what_stands_in_the_way():
    row = torch.zeros(3)
    assert native_obstacle(row, row, row, EPS) is None
    assert "a tensor is on meta" in str(native_obstacle(row.to("meta"), row, row, EPS))
    assert "a tensor is torch.float64" in str(native_obstacle(row, row.double(), row, EPS))
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in str(native_obstacle(row, row, row, EPS))
    assert "no gradient" in str(native_obstacle(row, row, row.clone().requires_grad_(), EPS))


def test_pytorch_finds_nothing_wrong_with_the_op():
    torch.library.opcheck(torch.ops.receptance.layer_norm.default, (*rows_of(3, 5), EPS))
