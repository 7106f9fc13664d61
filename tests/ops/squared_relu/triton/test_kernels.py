"""The kernels of the squared ReLU against PyTorch's, between guards."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.squared_relu.reference import squared_relu_reference
from receptance.ops.squared_relu.triton import squared_relu_triton
from tests.tolerances import Tolerance, rounded_once

pytestmark = pytest.mark.usefixtures("_guarded_memory")

LENGTHS = (0, 1, 2, 15, 16, 17, 63, 64, 65, 257, 1023, 1024, 1025, 2500)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def normal(n: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_the_square_and_its_gradient_are_rounded_once(n, dtype, triton_device):
    k, grad = (normal(n, seed, dtype).to(triton_device) for seed in range(2))
    wide = k.double().requires_grad_()
    square = squared_relu_reference(wide)
    (expected,) = torch.autograd.grad(square, wide, grad.double())
    leaf = k.requires_grad_()
    found = squared_relu_triton(leaf)
    (grad_k,) = torch.autograd.grad(found, leaf, grad)
    # Below float16's normal numbers the unit in the last place stays 2^-24.
    tolerance = Tolerance(rtol=rounded_once(dtype, triton_device), atol=2.0**-24)
    assert_close(found.double(), square, **tolerance)
    assert_close(grad_k.double(), expected, **tolerance)


def test_not_a_number_stays_one(triton_device):
    k = torch.tensor([float("nan"), -float("inf"), float("inf"), -0.0], device=triton_device)
    assert_close(squared_relu_triton(k), torch.relu(k).square(), rtol=0, atol=0, equal_nan=True)
