"""Triton's `layer_norm`: its choice, its launch, its gradients, its place in PyTorch."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.layer_norm import layer_norm
from receptance.ops.layer_norm.triton import (
    MOST_CHANNELS,
    launch,
    layer_norm_obstacle,
    layer_norm_triton,
)
from tests.tolerances import FLOAT32


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("C", [1, 16, 17, 768, 4096, 5120, MOST_CHANNELS])
@pytest.mark.parametrize("N", [1, 1023, 1024, 1025, 8192, 100_000])
def test_programs_cover_every_row_and_every_channel_once(N, C):
    form = launch(N, C)
    assert form.rows * form.programs >= N > form.rows * (form.programs - 1)
    assert C <= form.block < max(2 * C, 17)
    assert form.block & (form.block - 1) == 0
    assert form.warps in (1, 2, 4, 8, 16)


def test_obstacles_say_what_stands_in_the_way():
    x = torch.zeros(2, 3)
    obstacle = layer_norm_obstacle(x, x[0], x[0], 1e-5)
    assert obstacle == "it runs on a GPU, and a tensor is on cpu"
    assert layer_norm_obstacle(x.half(), x[0], x[0], 1e-5) == (
        "it serves tensors of one dtype, and `x`, `weight` and `bias` are torch.float16, "
        "torch.float32 and torch.float32"
    )
    wide = torch.zeros(1, MOST_CHANNELS + 1)
    assert layer_norm_obstacle(wide, wide[0], wide[0], 1e-5) == (
        f"it serves up to {MOST_CHANNELS} channels, and there are {MOST_CHANNELS + 1}"
    )


def test_tensors_of_any_shape_and_stride_are_read_right(triton_device):
    x = normal(6, 3, 2, 4).to(triton_device).transpose(0, 3).requires_grad_()
    weight, bias = (normal(12, seed=i).to(triton_device)[::2] for i in (1, 2))
    found = layer_norm(x, weight, bias, implementation="triton")
    expected = layer_norm(x, weight, bias, implementation="reference")
    assert_close(found, expected, **FLOAT32)
    seed = torch.ones(1, device=triton_device).expand(x.shape)
    grads = [torch.autograd.grad(each.sin(), x, seed) for each in (found, expected)]
    assert_close(*grads, **FLOAT32)


def test_no_row_is_no_work(triton_device):
    leaves = [normal(0, 5), normal(5), normal(5)]
    leaves = [each.to(triton_device).requires_grad_() for each in leaves]
    x, weight, bias = leaves
    out = layer_norm_triton(x, weight, bias, 1e-5)
    assert out.shape == (0, 5)
    grads = torch.autograd.grad(out.sum(), leaves)
    assert [each.shape for each in grads] == [(0, 5), (5,), (5,)]
    assert not any(each.any() for each in grads)


def test_a_second_derivative_is_refused(triton_device):
    x, weight = normal(2, 5).to(triton_device).requires_grad_(), normal(5).to(triton_device)
    y = layer_norm_triton(x, weight, weight, 1e-5)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="Triton layer_norm has no second derivative"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pytorch_finds_nothing_wrong_with_the_ops(dtype, triton_device):
    x, weight, bias, grad = (
        normal(*shape, seed=i).to(triton_device, dtype)
        for i, shape in enumerate(((3, 5), (5,), (5,), (3, 5)))
    )
    mean, rstd = x.float().mean(dim=-1), 1 / x.float().std(dim=-1)
    ops = torch.ops.receptance
    torch.library.opcheck(ops.layer_norm_backward_triton.default, (x, weight, mean, rstd, grad))
    leaves = [each.requires_grad_() for each in (x, weight, bias)]
    torch.library.opcheck(ops.layer_norm_triton.default, (*leaves, 1e-5))
