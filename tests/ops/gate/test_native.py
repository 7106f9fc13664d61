"""The native gates against the references, in every instruction set."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.gate import gate, gated_add
from receptance.ops.gate.native import (
    gate_native,
    gate_obstacle,
    gated_add_native,
    gated_add_obstacle,
)
from receptance.ops.gate.reference import gate_reference, gated_add_reference
from receptance.ops.native import instruction_sets, library_obstacle
from tests.tolerances import ALGEBRA

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 1000)
DTYPES = (torch.float32, torch.bfloat16, torch.float64)

# Float32: the exponential is right to 2 units in the last place, and few operations follow.
SINGLE = 1e-6
# Bfloat16 results are computed in float32 and rounded once: half a unit in the last place.
ROUNDING = {torch.float32: SINGLE, torch.float64: SINGLE, torch.bfloat16: 1.01 * 2.0**-8}


def normal(n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n, generator=generator, dtype=torch.float64)).to(dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def forced(op: str, instruction_set: str) -> Callable[..., Tensor]:
    number = instruction_sets()[instruction_set]
    return lambda *args: getattr(torch.ops.receptance, op)(*args, number)


def gate_results(run: Callable[..., Tensor], n: int, dtype: torch.dtype) -> list[Tensor]:
    """Return the product and the gradients of r and y."""
    r, y, seed = (normal(n, i, dtype) for i in range(3))
    leaves = [r.requires_grad_(), y.requires_grad_()]
    product = run(*leaves)
    return [product.detach(), *torch.autograd.grad(product, leaves, seed)]


def add_results(
    run: Callable[..., Tensor], n: int, dtype: torch.dtype, *, is_gated: bool
) -> list[Tensor]:
    """Return the sum and the gradients of x, y and, if there is a gate, r."""
    x, seed = normal(n, 0, wide(dtype)), normal(n, 1, wide(dtype))
    leaves = [x.requires_grad_(), normal(n, 2, dtype).requires_grad_()]
    if is_gated:
        leaves.append(normal(n, 3, dtype).requires_grad_())
    total = run(*leaves) if is_gated else run(*leaves, None)
    return [total.detach(), *torch.autograd.grad(total, leaves, seed)]


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("n", [0, *LENGTHS])
def test_both_agree_with_their_references_in_float64(n, instruction_set):
    expected = gate_results(gate_reference, n, torch.float64)
    assert_close(
        gate_results(forced("gate", instruction_set), n, torch.float64), expected, **ALGEBRA
    )
    for is_gated in (False, True):
        run = forced("gated_add", instruction_set)
        actual = add_results(run, n, torch.float64, is_gated=is_gated)
        expected = add_results(gated_add_reference, n, torch.float64, is_gated=is_gated)
        assert_close(actual, expected, **ALGEBRA)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_loses_one_rounding(dtype, instruction_set):
    def doubled(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args: run(*(None if each is None else each.double() for each in args))

    n = 1000
    pairs = [
        (
            gate_results(forced("gate", instruction_set), n, dtype),
            gate_results(doubled(gate_reference), n, dtype),
        )
    ]
    for is_gated in (False, True):
        run = forced("gated_add", instruction_set)
        pairs.append(
            (
                add_results(run, n, dtype, is_gated=is_gated),
                add_results(doubled(gated_add_reference), n, dtype, is_gated=is_gated),
            )
        )
    for actual, exact in pairs:
        for found, value in zip(actual, exact, strict=True):
            error = (found.double() - value.double()).abs()
            # The exact gradient was itself rounded, to the leaf's dtype; a sum may cancel.
            size = value.double().abs()
            bound = 2 * ROUNDING[found.dtype] * size + 1e-7 * size.max()
            assert (error <= bound).all()


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_receptances_at_the_ends_of_the_range(dtype, instruction_set):
    ends = [-float("inf"), -1e30, -800.0, -90.0, -0.0, 0.0, 90.0, 800.0, 1e30, float("inf")]
    r = torch.tensor([*ends, float("nan")], dtype=dtype).requires_grad_()
    y = torch.full_like(r, 2.0).requires_grad_()
    product = forced("gate", instruction_set)(r, y)
    share = torch.tensor([0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 1, float("nan")], dtype=dtype)
    assert_close(product, 2 * share, rtol=1e-6, atol=1e-37, equal_nan=True)
    grad_r, grad_y = torch.autograd.grad(product.sum(), (r, y))
    assert_close(grad_y, share, rtol=1e-6, atol=1e-37, equal_nan=True)
    assert_close(grad_r, 2 * share * (1 - share), rtol=1e-6, atol=1e-37, equal_nan=True)


def test_gradients_are_the_numerical_ones():
    x, r, y = (normal(20, i).requires_grad_() for i in range(3))
    assert torch.autograd.gradcheck(gate_native, (r, y))
    assert torch.autograd.gradcheck(gated_add_native, (x, y, r))
    assert torch.autograd.gradcheck(lambda x, y: gated_add_native(x, y, None), (x, y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("_restored_threads")
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    n = 200_001
    torch.set_num_threads(1)
    alone = gate_results(gate_native, n, dtype) + add_results(
        gated_add_native, n, dtype, is_gated=True
    )
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        found = gate_results(gate_native, n, dtype)
        found += add_results(gated_add_native, n, dtype, is_gated=True)
        assert_close(found, alone, rtol=0, atol=0)


def test_tensors_that_are_not_contiguous_are_read_right():
    x, r, y = (normal(24, i).reshape(4, 6).t() for i in range(3))
    assert_close(gate_native(r, y), gate_reference(r, y), **ALGEBRA)
    assert_close(gated_add_native(x, y, r), gated_add_reference(x, y, r), **ALGEBRA)
    assert_close(gated_add_native(x, y, None), x + y, **ALGEBRA)
    leaves = [r.detach().requires_grad_(), y.detach().requires_grad_()]
    seed = torch.ones(1, 1, dtype=torch.float64).expand(6, 4)
    actual = torch.autograd.grad(gate_native(*leaves), leaves, seed)
    assert_close(actual, torch.autograd.grad(gate_reference(*leaves), leaves, seed), **ALGEBRA)


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    [
        ("gate", (torch.zeros(3).half(), torch.zeros(3)), "`r` must have the dtype Float, BFloat"),
        ("gate", (torch.zeros(3), torch.zeros(3).double()), "`y` must have the dtype Float, got"),
        ("gate", (torch.zeros(3), torch.zeros(4)), r"`y` must have the shape \[3\], got \[4\]"),
        ("gate", (torch.zeros(3), torch.zeros(3), 9), "`instruction_set` must be 0"),
        ("gated_add", (torch.zeros(4), torch.zeros(3), None), r"`x` must have the shape \[3\]"),
        ("gated_add", (torch.zeros(3).double(), torch.zeros(3), None), "`x` must have the dtype"),
        ("gated_add", (torch.zeros(3), torch.zeros(3), torch.zeros(4)), "`r` must have the shape"),
    ],
)
def test_the_ops_refuse_what_they_cannot_read(op, arguments, message):
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.receptance, op)(*arguments)


def test_obstacles_say_what_stands_in_the_way():
    x = torch.zeros(3)
    assert gate_obstacle(x, x) is None
    assert gated_add_obstacle(x, x.bfloat16(), None) is None
    assert "a tensor is on meta" in str(gate_obstacle(x.to("meta"), x))
    assert "and these tensors are torch.float64 with torch.bfloat16" in str(
        gated_add_obstacle(x.double(), x.bfloat16(), x.bfloat16())
    )


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, in inductor
def test_they_trace_whole_under_torch_compile():
    def run(x, y, r):
        return gated_add(gated_add(x, gate(r, y)), y, r)

    x, y, r = (normal(17, i, torch.float32).requires_grad_() for i in range(3))
    total = torch.compile(run, fullgraph=True)(x, y, r)
    assert torch.equal(total, run(x, y, r))
    found = torch.autograd.grad(total.sin().sum(), (x, y, r))
    assert_close(found, torch.autograd.grad(run(x, y, r).sin().sum(), (x, y, r)))
