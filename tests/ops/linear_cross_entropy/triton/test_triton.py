"""`linear_cross_entropy` by the kernel for GPUs: its choice, its chunks, its place in PyTorch."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.linear_cross_entropy import chunked, linear_cross_entropy
from receptance.ops.linear_cross_entropy import triton as ours
from receptance.ops.linear_cross_entropy.chunked import chunk_tokens, triton_obstacle
from receptance.ops.linear_cross_entropy.triton import MOST_OF_A_ROW, block
from tests.tolerances import FLOAT32


def case(N: int, C: int = 5, V: int = 37) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(N)
    x, weight = (2 * torch.randn(rows, C, generator=generator) for rows in (N, V))
    return x, weight, torch.randint(V, (N,), generator=generator)


@pytest.mark.parametrize("V", [1, 16, 17, 50277, 65536])
def test_a_program_has_at_most_so_many_logits_at_a_time(V):
    assert min(V, MOST_OF_A_ROW) <= block(V) <= MOST_OF_A_ROW
    assert block(V) & (block(V) - 1) == 0


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("N", [1, 15, 16, 17, 65])
def test_means_and_gradients_are_the_references(N, with_mask, triton_device, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 16 * 37 * 4)
    monkeypatch.setattr(chunked, "GPU_CHUNK_BYTES", 16 * 37 * 4)
    x, weight, targets = (each.to(triton_device) for each in case(N))
    leaves = x.requires_grad_(), weight.requires_grad_()
    counted = torch.arange(N, device=triton_device) % 3 > 0 if with_mask else None
    found = []
    for name in ("triton", "reference"):
        loss = linear_cross_entropy(
            *leaves, targets, auxiliary=0.3, counted=counted, implementation=name
        )
        found.append((*loss, *torch.autograd.grad(loss.total * 0.7, leaves)))
    assert_close(*found, **FLOAT32)


def test_rows_of_a_vocabulary_of_any_size_are_aligned(triton_device, monkeypatch):
    strides = []

    def row_gradient(logits: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        strides.append(logits.stride())
        return ours.row_gradient(logits, *args)

    monkeypatch.setattr(chunked, "row_gradient_of", lambda _: row_gradient)
    x, weight, targets = (each.to(triton_device) for each in case(3))
    linear_cross_entropy(x, weight, targets, implementation="triton")
    assert strides == [(48, 1)]


@pytest.mark.usefixtures("interpreted")
def test_obstacles_say_what_stands_in_the_way():
    args = (*case(3), 0.1)
    assert triton_obstacle(*args, torch.float32) is None
    assert triton_obstacle(*args, torch.bfloat16, torch.ones(3, dtype=torch.bool)) is None
    assert "and they are in torch.float16" in str(triton_obstacle(*args, torch.float16))
    assert "and they are in torch.float64" in str(triton_obstacle(*args, torch.float64))


def test_a_tensor_on_the_cpu_is_refused():
    obstacle = triton_obstacle(*case(3), 0.1, torch.float32)
    assert obstacle == "it runs on a GPU, and a tensor is on cpu"


def test_a_gpu_has_more_tokens_at_a_time():
    assert chunk_tokens(65536, torch.bfloat16) == 256
    assert chunk_tokens(65536, torch.bfloat16, "cuda") == 4096


def test_pytorch_finds_nothing_wrong_with_the_op(triton_device):
    x, weight, targets = (each.to(triton_device) for each in case(3))
    op = torch.ops.receptance.linear_cross_entropy.default
    leaves = x.requires_grad_(), weight.requires_grad_()
    torch.library.opcheck(op, (*leaves, targets, 0.3, torch.float32, True, True, "triton", None))
