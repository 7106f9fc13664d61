"""Triton's `norm_shift_mix`: its choice, its launch, its gradients, its place in PyTorch."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.norm_shift_mix import norm_shift_mix
from receptance.ops.norm_shift_mix.reference import norm_shift_mix_reference
from receptance.ops.norm_shift_mix.triton import (
    MOST_CHANNELS,
    launch,
    norm_shift_mix_obstacle,
    norm_shift_mix_triton,
    tokens_of_sums,
)
from tests.tolerances import FLOAT32

Arguments = tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...], Tensor]


def arguments(B: int, T: int, C: int, n_mixes: int = 3) -> Arguments:
    """Return x, weight, bias, mixes and x_last."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mixes = tuple(normal(C) for _ in range(n_mixes))
    return normal(B, T, C), 1 + normal(C), normal(C), mixes, normal(B, C)


def moved(args: Arguments, device: str) -> Arguments:
    x, weight, bias, mixes, x_last = args
    mixes = tuple(mix.to(device) for mix in mixes)
    return x.to(device), weight.to(device), bias.to(device), mixes, x_last.to(device)


@pytest.mark.parametrize("is_backward", [False, True])
@pytest.mark.parametrize("C", [1, 16, 17, 768, 4096, 5120, MOST_CHANNELS])
@pytest.mark.parametrize(("B", "T"), [(1, 1), (1, 100_000), (8, 1024), (8, 4096), (70_000, 1)])
def test_programs_cover_every_token_and_every_channel_once(B, T, C, is_backward):
    form = launch(B, T, C, is_backward=is_backward)
    assert form.tokens * form.chunks >= T > form.tokens * (form.chunks - 1)
    assert C <= form.block < max(2 * C, 17)
    assert form.block & (form.block - 1) == 0
    assert form.warps in (1, 2, 4, 8, 16)
    # What backward leaves behind for each program is little beside x.
    if is_backward and B * T >= 8192:
        assert 5 * form.chunks * B <= max(B * T, 5 * B)


@pytest.mark.parametrize(("B", "T"), [(1, 1), (1, 100_000), (8, 4096), (70_000, 1)])
def test_programs_of_sums_leave_little_behind(B, T):
    tokens = tokens_of_sums(B, T, 5120)
    assert 1 <= tokens <= T
    assert 5 * -(-T // tokens) * B <= max(B * T // 4, 5 * B)


def test_obstacles_say_what_stands_in_the_way():
    args = arguments(1, 2, 3)
    rest = (None, 1e-5, torch.float32)
    obstacle = norm_shift_mix_obstacle(*args, *rest)
    assert obstacle == "it runs on a GPU, and a tensor is on cpu"
    x, weight, bias, mixes, x_last = args
    assert norm_shift_mix_obstacle(x, weight, bias, mixes[:1], x_last, *rest) == (
        "it serves 2 or 3 mixes, and there are 1"
    )
    assert norm_shift_mix_obstacle(x.bfloat16(), weight, bias, mixes, x_last, *rest) == (
        "it serves a stream of float32, and this one is torch.bfloat16"
    )
    wide = torch.zeros(1, 1, MOST_CHANNELS + 1)
    assert norm_shift_mix_obstacle(wide, weight, bias, mixes, x_last, *rest) == (
        f"it serves up to {MOST_CHANNELS} channels, and there are {MOST_CHANNELS + 1}"
    )


@pytest.mark.usefixtures("interpreted")
def test_it_serves_what_a_gpu_trains_in():
    args = arguments(1, 2, 3)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert norm_shift_mix_obstacle(*args, None, 1e-5, dtype) is None
    assert "a tensor is torch.float64" in str(
        norm_shift_mix_obstacle(*args, None, 1e-5, torch.float64)
    )


def test_it_is_asked_for_by_name(triton_device):
    x, weight, bias, mixes, x_last = moved(arguments(2, 4, 6), triton_device)
    mixed, last = norm_shift_mix(x, weight, bias, mixes, x_last, implementation="triton")
    expected, expected_last = norm_shift_mix_reference(
        x, weight, bias, mixes, x_last, None, 1e-5, torch.float32
    )
    assert_close(mixed, expected, **FLOAT32)
    assert_close(last, expected_last, **FLOAT32)


def test_tensors_that_are_not_contiguous_are_read_right(triton_device):
    x, weight, bias, mixes, x_last = moved(arguments(4, 5, 6), triton_device)
    x = x.transpose(0, 1)
    x_last = torch.randn(6, 5, device=triton_device).t()
    flags = torch.rand(4, 5, device=triton_device).t() < 0.3
    weight, bias = weight.repeat_interleave(2)[::2], bias.repeat_interleave(3)[::3]
    x.requires_grad_()
    rest = (weight, bias, mixes, x_last, flags, 1e-5, torch.float32)
    found, expected = (run(x, *rest) for run in (norm_shift_mix_triton, norm_shift_mix_reference))
    assert_close(found, expected, **FLOAT32)
    seed = torch.ones(1, 1, 1, device=triton_device).expand(5, 4, 6)
    grads = [torch.autograd.grad(mixed[0].sin(), x, seed) for mixed, _ in (found, expected)]
    assert_close(*grads, **FLOAT32)


def test_gradients_that_nothing_asks_for_are_zero(triton_device):
    x, weight, bias, mixes, x_last = moved(arguments(2, 5, 8), triton_device)
    x.requires_grad_()
    rest = (weight, bias, mixes, x_last, None, 1e-5, torch.float32)
    for which in range(4):
        grads = []
        for run in (norm_shift_mix_triton, norm_shift_mix_reference):
            mixed, last = run(x, *rest)
            grads += torch.autograd.grad([*mixed, last][which].sin().sum(), x)
        assert_close(*grads, **FLOAT32)


def test_no_token_leaves_the_last_one_as_it_is(triton_device):
    x, weight, bias, mixes, x_last = moved(arguments(2, 1, 8), triton_device)
    leaves = [x[:, :0].requires_grad_(), x_last.requires_grad_()]
    mixed, last = norm_shift_mix_triton(
        leaves[0], weight, bias, mixes, x_last, None, 1e-5, torch.float32
    )
    assert torch.equal(last, x_last)
    assert [each.shape for each in mixed] == [(2, 0, 8)] * 3
    grad_x, grad_last = torch.autograd.grad(last.square().sum(), leaves)
    assert grad_x.shape == (2, 0, 8)
    assert_close(grad_last, 2 * x_last)
