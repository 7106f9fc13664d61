"""The kernels of the gates against the references, between guards."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.gate.reference import gate_reference, gated_add_reference
from receptance.ops.gate.triton import gate_triton, gated_add_triton
from tests.tolerances import rounded_once

pytestmark = pytest.mark.usefixtures("_guarded_memory")

LENGTHS = (0, 1, 2, 15, 16, 17, 63, 64, 65, 257, 1023, 1024, 1025, 2500)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# A sum of numbers of up to 12 may cancel; below float16's normal numbers the unit stays 2^-24.
LEAST = 2e-6


def normal(n: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n, generator=generator)).to(dtype)


def gate_results(run: Callable[..., Tensor], leaves: list[Tensor], seed: Tensor) -> list[Tensor]:
    """Return a result and the gradients of all that goes into it."""
    leaves = [each.detach().requires_grad_() for each in leaves]
    result = run(*leaves)
    grads = torch.autograd.grad(result, leaves, seed.to(result.dtype))
    return [result.detach(), *grads]


def assert_rounded_once(actual: list[Tensor], exact: list[Tensor]) -> None:
    for found, value in zip(actual, exact, strict=True):
        rtol = rounded_once(found.dtype, found.device.type)
        assert_close(found.double(), value, rtol=rtol, atol=LEAST)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_results_and_gradients_are_the_references_rounded_once(n, dtype, triton_device):
    x, seed = normal(n, 0, torch.float32), normal(n, 1, torch.float32)
    r, y = normal(n, 2, dtype), normal(n, 3, dtype)
    x, r, y, seed = (each.to(triton_device) for each in (x, r, y, seed))
    runs = [
        (gate_triton, gate_reference, [r, y], seed.to(dtype)),
        (gated_add_triton, gated_add_reference, [x, y, r], seed),
        (lambda x, y: gated_add_triton(x, y, None), torch.add, [x, y], seed),
    ]
    for run, reference, leaves, grad in runs:
        exact = gate_results(reference, [each.double() for each in leaves], grad)
        assert_rounded_once(gate_results(run, leaves, grad), exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_receptances_at_the_ends_of_the_range(dtype, triton_device):
    ends = [-float("inf"), -6e4, -800.0, -90.0, -0.0, 0.0, 90.0, 800.0, 6e4, float("inf")]
    r = torch.tensor([*ends, float("nan")], dtype=dtype, device=triton_device).requires_grad_()
    y = torch.full_like(r, 2.0).requires_grad_()
    product = gate_triton(r, y)
    share = [0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 1, float("nan")]
    share = torch.tensor(share, dtype=dtype, device=triton_device)
    assert_close(product, 2 * share, rtol=0, atol=1e-37, equal_nan=True)
    grad_r, grad_y = torch.autograd.grad(product.sum(), (r, y))
    assert_close(grad_y, share, rtol=0, atol=1e-37, equal_nan=True)
    assert_close(grad_r, 2 * share * (1 - share), rtol=0, atol=1e-37, equal_nan=True)
