"""The gates' Triton implementation: its choice, its gradients, its place in PyTorch."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.gate import gate, gated_add
from receptance.ops.gate.reference import gate_reference, gated_add_reference
from receptance.ops.gate.triton import (
    gate_triton,
    gated_add_triton,
    triton_gate_obstacle,
    triton_gated_add_obstacle,
)
from tests.tolerances import FLOAT32

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_obstacles_say_what_stands_in_the_way():
    x = torch.zeros(3)
    for obstacle in (triton_gate_obstacle(x, x), triton_gated_add_obstacle(x, x, None)):
        assert obstacle == "it runs on a GPU, and a tensor is on cpu"
    stream = x.bfloat16()
    assert triton_gated_add_obstacle(stream, stream, None) == (
        "it adds to a stream of float32, and this one is torch.bfloat16"
    )


@pytest.mark.usefixtures("interpreted")
def test_every_tensor_is_looked_at():
    x, wide = torch.zeros(3), torch.zeros(3, dtype=torch.float64)
    assert triton_gate_obstacle(x, x) is None
    assert triton_gated_add_obstacle(x, x.bfloat16(), x.half()) is None
    for obstacle in (
        triton_gate_obstacle(wide, x),
        triton_gate_obstacle(x, wide),
        triton_gated_add_obstacle(x, wide, None),
        triton_gated_add_obstacle(x, x, wide),
    ):
        assert "a tensor is torch.float64" in str(obstacle)


def test_it_is_asked_for_by_name(triton_device):
    x, r, y = (normal(5, seed=i).to(triton_device) for i in range(3))
    assert torch.equal(gate(r, y, implementation="triton"), gate_triton(r, y))
    assert torch.equal(gated_add(x, y, r, implementation="triton"), gated_add_triton(x, y, r))


def test_tensors_that_are_not_contiguous_are_read_right(triton_device):
    x, r, y = (normal(4, 6, seed=i).to(triton_device).t().requires_grad_() for i in range(3))
    seed = torch.ones(1, 1, device=triton_device).expand(6, 4)
    for run, reference, leaves in (
        (gate_triton, gate_reference, (r, y)),
        (gated_add_triton, gated_add_reference, (x, y, r)),
    ):
        found, expected = run(*leaves), reference(*leaves)
        assert_close(found, expected, **FLOAT32)
        grads = [torch.autograd.grad(each, leaves, seed) for each in (found, expected)]
        assert_close(*grads, **FLOAT32)
