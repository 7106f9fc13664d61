"""The native product against the reference, in every instruction set."""

import pytest
import torch
from torch import Tensor

from receptance.ops.linear import by_columns
from receptance.ops.linear.native import linear_native, native_obstacle
from receptance.ops.linear.reference import linear_reference
from receptance.ops.native import instruction_sets, library_obstacle

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

DTYPES = (torch.float32, torch.bfloat16)
SHAPES = ((1, 1), (3, 17), (64, 64), (33, 600), (130, 65), (35, 1031))
COUNTS = (1, 2, 3, 5, 6, 7, 16, 33, 600)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def run(x: Tensor, weight: Tensor, instruction_set: str) -> Tensor:
    return torch.ops.receptance.linear(x, weight, instruction_sets()[instruction_set])


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_out", "n_in"), SHAPES)
def test_it_is_the_reference_but_for_rounding(n_out, n_in, dtype, instruction_set):
    weight = normal(n_out, n_in, seed=0, dtype=dtype)
    for n_rows in (0, 1, 2, 7, 33):
        x = normal(n_rows, n_in, seed=1, dtype=dtype)
        exact = linear_reference(x.double(), weight.double())
        found = run(x, weight, instruction_set)
        assert found.dtype == dtype
        # Each product and each of n_in additions rounds by half a unit of what is summed up, at
        # most; a result in bfloat16 is rounded once more, to 8 bits.
        magnitude = linear_reference(x.double().abs(), weight.double().abs())
        bound = (n_in + 1) * 2.0**-24 * magnitude
        if dtype == torch.bfloat16:
            bound += 1.01 * 2.0**-8 * (exact.abs() + bound)
        assert ((found.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_out", "n_in"), [(35, 1031), (70, 48)])
def test_a_row_has_the_same_bits_in_any_company(n_out, n_in, dtype, instruction_set):
    weight, x = normal(n_out, n_in, seed=0, dtype=dtype), normal(600, n_in, seed=1, dtype=dtype)
    together = run(x, weight, instruction_set)
    for count in COUNTS:
        assert torch.equal(run(x[:count], weight, instruction_set), together[:count])
    order = torch.randperm(600, generator=torch.Generator().manual_seed(2))
    assert torch.equal(run(x[order], weight, instruction_set), together[order])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("_restored_threads")
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    weight, x = normal(530, 300, seed=0, dtype=dtype), normal(33, 300, seed=1, dtype=dtype)
    torch.set_num_threads(1)
    alone = linear_native(x, weight)
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        assert torch.equal(linear_native(x, weight), alone)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_columns_it_has_the_same_bits(dtype, instruction_set):
    for n_out, n_in in ((1, 2), (35, 1030), (70, 48), (3, 0)):
        weight = normal(n_out, n_in, seed=0, dtype=dtype)
        for n_rows in (0, 1, 7):
            x = normal(n_rows, n_in, seed=1, dtype=dtype)
            found = run(x, by_columns(weight), instruction_set)
            assert torch.equal(found, run(x, weight, instruction_set))


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_row(wrong, dtype, instruction_set):
    weight, x = normal(19, 45, seed=0, dtype=dtype), normal(9, 45, seed=1, dtype=dtype)
    clean = run(x, weight, instruction_set)
    x[4, 44] = wrong
    y = run(x, weight, instruction_set)
    expected = (wrong * weight[:, 44]).to(dtype)
    assert torch.equal(y[4].isnan(), expected.isnan())
    assert torch.equal(y[4].nan_to_num(), expected.nan_to_num())
    others = [row for row in range(9) if row != 4]
    assert torch.equal(y[others], clean[others])


def test_a_weight_that_is_not_finite_stays_in_its_column():
    weight, x = normal(19, 45, seed=0), normal(9, 45, seed=1)
    weight[7, 3] = float("nan")
    is_nan = linear_native(x, weight).isnan()
    assert is_nan[:, 7].all()
    assert is_nan.sum() == 9


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_that_are_not_contiguous_are_read_right(dtype):
    x, weight = normal(6, 4, 20, seed=0, dtype=dtype), normal(10, 20, seed=1, dtype=dtype)
    expected = linear_native(x, weight)
    strided_x = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    strided_weight = torch.stack([weight, -weight], dim=-1)[..., 0]
    assert not strided_x.is_contiguous()
    assert not strided_weight.is_contiguous()
    assert torch.equal(linear_native(strided_x, strided_weight), expected)
    assert torch.equal(linear_native(x[::2, 1:3], weight), expected[::2, 1:3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(4, 3).double()), "`weight` must have the dtype Float or"),
        ((torch.zeros(2, 3).double(), torch.zeros(4, 3)), "`x` must have the dtype Float, got Dou"),
        ((torch.zeros(2, 3), torch.zeros(3)), r"must have the shape \[n_out, n_in\] or \[words, "),
        ((torch.zeros(2, 6), torch.zeros(3, 4, 2)), r"or \[words, n_out, 1\], got \[3, 4, 2\]"),
        (
            (torch.zeros(2, 5), torch.zeros(6, 4, 1)),
            r"the shape \[2, 6\], got \[2, 5\]",
        ),
        ((torch.zeros(2, 3), torch.zeros(4, 5)), r"`x` must have the shape \[2, 5\], got \[2, 3\]"),
        ((torch.zeros(()), torch.zeros(4, 5)), "`x` must have at least one axis"),
        ((torch.zeros(2, 3), torch.zeros(4, 3), 9), "`instruction_set` must be 0"),
    ],
)
def test_the_op_refuses_what_it_cannot_read(arguments, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.linear(*arguments)


def test_obstacles_say_what_stands_in_the_way():
    x = torch.zeros(2, 3)
    assert native_obstacle(x, x) is None
    assert "a tensor is on meta" in str(native_obstacle(x.to("meta"), x))
    assert "are torch.float64 and torch.float64" in str(native_obstacle(x.double(), x.double()))
    assert "are torch.float32 and torch.bfloat16" in str(native_obstacle(x, x.bfloat16()))
    with torch.autocast("cpu", torch.bfloat16):
        assert native_obstacle(x, x) == "it knows nothing of autocast, which is on"
    x.requires_grad_()
    assert "use torch.no_grad()" in str(native_obstacle(x, x))
    with torch.no_grad():
        assert native_obstacle(x, x) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorch_finds_nothing_wrong_with_the_op(dtype):
    x, weight = normal(2, 3, 5, seed=0, dtype=dtype), normal(4, 5, seed=1, dtype=dtype)
    torch.library.opcheck(torch.ops.receptance.linear.default, (x, weight))
    columns = by_columns(normal(4, 6, seed=1, dtype=dtype))
    x = normal(2, 3, 6, seed=0, dtype=dtype)
    torch.library.opcheck(torch.ops.receptance.linear.default, (x, columns))
