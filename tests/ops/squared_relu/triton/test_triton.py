"""Triton's `squared_relu` and `squared_relu_linear`: choice, gradients, place in PyTorch."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.squared_relu import (
    SQUARED_RELU_IMPLEMENTATIONS,
    squared_relu,
    squared_relu_linear,
)
from receptance.ops.squared_relu.reference import squared_relu_linear_reference
from receptance.ops.squared_relu.triton import (
    squared_relu_linear_triton,
    squared_relu_triton,
    triton_linear_obstacle,
    triton_squared_relu_obstacle,
)
from tests.tolerances import FLOAT32

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def results(run, k: Tensor, weight: Tensor) -> list[Tensor]:
    """Return the product and the gradients of k and the matrix."""
    leaves = [k.detach().requires_grad_(), weight.detach().requires_grad_()]
    y = run(*leaves)
    seed = normal(*y.shape, seed=9, dtype=y.dtype).to(y.device)
    return [y.detach(), *torch.autograd.grad(y, leaves, seed)]


@pytest.mark.usefixtures("_guarded_memory")
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 63, 64, 65, 257])
def test_the_product_and_its_gradients_are_the_references(T, triton_device):
    k, weight = normal(2, T, 21).to(triton_device), normal(6, 21, seed=1).to(triton_device)
    expected = results(squared_relu_linear_reference, k, weight)
    # The gradient of the matrix is a sum over all tokens.
    assert_close(results(squared_relu_linear_triton, k, weight), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_is_that_of_the_rounded_square(dtype, triton_device):
    k, weight = (normal(5, 8, seed=i, dtype=dtype).to(triton_device) for i in range(2))
    expected = torch.nn.functional.linear(squared_relu_triton(k), weight)
    assert torch.equal(squared_relu_linear_triton(k, weight), expected)


def test_tensors_that_are_not_contiguous_are_read_right(triton_device):
    k = normal(4, 3, 2).to(triton_device).transpose(0, 2)
    weight = normal(4, 5, seed=1).to(triton_device).t()
    assert_close(squared_relu_triton(k), torch.relu(k).square())
    expected = results(squared_relu_linear_reference, k, weight)
    assert_close(results(squared_relu_linear_triton, k, weight), expected, **FLOAT32)


def test_a_gradient_that_is_not_wanted_is_not_computed(triton_device):
    k, weight = normal(2, 3, 5).to(triton_device), normal(4, 5, seed=1).to(triton_device)
    for which in range(2):
        leaves = [k.clone(), weight.clone()]
        leaves[which].requires_grad_()
        squared_relu_linear_triton(*leaves).sum().backward()
        assert leaves[which].grad is not None
        assert leaves[1 - which].grad is None


def test_the_choices_are_fastest_first_and_say_what_stands_in_the_way():
    names = [each.name for each in SQUARED_RELU_IMPLEMENTATIONS]
    assert names == ["native", "triton", "reference"]
    k = torch.zeros(2, 3)
    for obstacle in (triton_squared_relu_obstacle(k), triton_linear_obstacle(k, k)):
        assert obstacle == "it runs on a GPU, and a tensor is on cpu"


def test_they_are_asked_for_by_name(triton_device):
    k, weight = normal(3, 5).to(triton_device), normal(4, 5, seed=1).to(triton_device)
    assert torch.equal(squared_relu(k, implementation="triton"), squared_relu_triton(k))
    product = squared_relu_linear(k, weight, implementation="triton")
    assert torch.equal(product, squared_relu_linear_triton(k, weight))
