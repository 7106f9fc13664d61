"""The native `squared_relu_linear` against the reference, in every instruction set."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.squared_relu import squared_relu_linear
from receptance.ops.squared_relu.native import native_obstacle, squared_relu_linear_native
from receptance.ops.squared_relu.reference import squared_relu_linear_reference
from tests.tolerances import ALGEBRA

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 1000)
DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def results(run, k: Tensor, weight: Tensor) -> list[Tensor]:
    """Return the product and the gradients of k and the matrix."""
    leaves = [k.detach().requires_grad_(), weight.detach().requires_grad_()]
    y = run(*leaves)
    seed = normal(*y.shape, seed=9, dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, seed)]


@pytest.mark.parametrize("T", LENGTHS)
def test_agrees_with_the_reference_in_float64(T):
    k, weight = normal(2, T, 21), normal(6, 21, seed=1)
    expected = results(squared_relu_linear_reference, k, weight)
    assert_close(results(squared_relu_linear_native, k, weight), expected, **ALGEBRA)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, *LENGTHS])
def test_the_square_and_its_gradient_are_pytorchs_to_the_bit(n, dtype, instruction_set):
    number = instruction_sets()[instruction_set]
    k, grad = normal(n, dtype=dtype), normal(n, seed=1, dtype=dtype)
    square = torch.ops.receptance.squared_relu(k, number)
    assert torch.equal(square, torch.relu(k).square())
    expected = (2 * torch.relu(k).double() * grad.double()).to(dtype)
    torch.ops.receptance.squared_relu_backward_(grad, k, number)
    assert torch.equal(grad, expected)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_not_a_number_stays_one(instruction_set):
    number = instruction_sets()[instruction_set]
    k = torch.tensor([float("nan"), -float("inf"), float("inf"), -0.0])
    square = torch.ops.receptance.squared_relu(k, number)
    assert_close(square, torch.relu(k).square(), rtol=0, atol=0, equal_nan=True)


def test_gradients_are_the_numerical_ones():
    k, weight = normal(2, 3, 5).requires_grad_(), normal(4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(squared_relu_linear_native, (k, weight))


def test_a_gradient_that_is_not_wanted_is_not_computed():
    k, weight = normal(2, 3, 5), normal(4, 5, seed=1)
    expected = results(squared_relu_linear_reference, k, weight)
    for i, leaf in enumerate((k, weight)):
        leaf.requires_grad_()
        y = squared_relu_linear_native(k, weight)
        y.backward(normal(*y.shape, seed=9))
        assert_close(leaf.grad, expected[1 + i], **ALGEBRA)
        leaf.requires_grad_(False)
    assert k.grad is not None


def test_only_k_and_the_matrix_are_kept():
    k, weight = normal(2, 3, 5).requires_grad_(), normal(4, 5, seed=1).requires_grad_()
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        squared_relu_linear(k, weight)
    assert sorted(kept) == sorted([k.data_ptr(), weight.data_ptr()])


def test_tensors_that_are_not_contiguous_are_read_right():
    k, weight = normal(5, 3, 2).transpose(0, 2), normal(5, 4, seed=1).t()
    expected = results(squared_relu_linear_reference, k, weight)
    assert_close(results(squared_relu_linear_native, k, weight), expected, **ALGEBRA)


def test_the_ops_refuse_what_they_cannot_read():
    ops, zeros = torch.ops.receptance, torch.zeros(3, 4)
    with pytest.raises(RuntimeError, match="`k` must have the dtype Float, BFloat16 or Double"):
        ops.squared_relu(zeros.half())
    with pytest.raises(RuntimeError, match=r"`grad` must have the shape \[3, 4\], got \[4\]"):
        ops.squared_relu_backward_(torch.zeros(4), zeros)
    with pytest.raises(RuntimeError, match="`grad` must be contiguous, since it is changed in"):
        ops.squared_relu_backward_(torch.zeros(4, 3).t(), zeros)


def test_obstacles_say_what_stands_in_the_way():
    k = torch.zeros(2, 3)
    assert native_obstacle(k, k) is None
    assert "a tensor is on meta" in str(native_obstacle(k, k.to("meta")))
    assert "and these tensors are" in str(native_obstacle(k.half(), k.half()))


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, in inductor
def test_it_traces_whole_under_torch_compile():
    k, weight = normal(2, 3, 5).float(), normal(4, 5, seed=1).float()
    compiled = torch.compile(squared_relu_linear, fullgraph=True)
    found = results(compiled, k, weight)
    assert_close(found, results(squared_relu_linear, k, weight), rtol=0, atol=0)
