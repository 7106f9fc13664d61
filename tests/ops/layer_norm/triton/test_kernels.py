"""The kernels of `layer_norm` against PyTorch's in float64, between guards."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.layer_norm import triton as ours
from receptance.ops.layer_norm.reference import layer_norm_reference
from receptance.ops.layer_norm.triton import Launch, layer_norm_triton
from tests.tolerances import rounded_once

pytestmark = pytest.mark.usefixtures("_guarded_memory")

# Of the largest number of an array. A row's mean and variance round a few times in float32, and a
# vector's gradient is a sum over some hundred rows (seen: 1e-6).
SINGLE = 1e-5


def results(run, leaves: list[Tensor], seed: Tensor) -> list[Tensor]:
    """Return the rows normalised and the gradients of x, weight and bias."""
    leaves = [each.detach().requires_grad_() for each in leaves]
    out = run(*leaves, 1e-5)
    return [out.detach(), *torch.autograd.grad(out, leaves, seed)]


def assert_agrees(N: int, C: int, device: str, dtype: torch.dtype = torch.float32) -> None:
    generator = torch.Generator().manual_seed(N)
    shapes = ((N, C), (C,), (C,), (N, C))
    tensors = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    tensors[0] = 2 * tensors[0] + 1
    *leaves, seed = tensors
    expected = results(layer_norm_reference, [each.double() for each in leaves], seed.double())
    for found, value in zip(results(layer_norm_triton, leaves, seed), expected, strict=True):
        assert found.dtype == dtype
        rtol = 0 if dtype == torch.float32 else rounded_once(dtype, device)
        atol = SINGLE * value.abs().max().item()
        assert_close(found.double(), value, rtol=rtol, atol=atol)


@pytest.mark.parametrize("N", [1, 2, 15, 16, 17, 63, 64, 65, 257])
def test_results_and_gradients_are_the_references(N, triton_device):
    assert_agrees(N, 21, triton_device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_results_and_gradients_of_low_precision_are_rounded_once(dtype, triton_device):
    assert_agrees(17, 21, triton_device, dtype)


@pytest.mark.parametrize("C", [5, 16, 17, 64, 130, 300])
def test_any_number_of_channels_agrees_with_the_reference(C, triton_device):
    assert_agrees(5, C, triton_device)


@pytest.mark.parametrize("rows", [3, 5, 16])
def test_programs_of_many_rows_agree_with_the_reference(rows, triton_device, monkeypatch):
    monkeypatch.setattr(ours, "launch", lambda N, _: Launch(rows, -(-N // rows), 32, 1))
    assert_agrees(11, 19, triton_device)
