"""`gate` and `gated_add` on a GPU, in Triton: one launch forward and one backward.

`kernels.py` says what they read and write.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.gate.gradients import fake_backward, register_gate, register_gated_add
from receptance.ops.registration import register_backward
from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

BLOCK = 1024
"""Numbers of a program: 16 bytes of bfloat16 a thread, at Triton's 128 threads."""


def gate_triton(r: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return σ(r) ⊙ y; see `receptance.ops.gate.gate`."""
    return torch.ops.receptance.gate_triton(r, y)


def gated_add_triton(
    x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], r: Float[Tensor, "*shape"] | None
) -> Float[Tensor, "*shape"]:
    """Return x + σ(r) ⊙ y, or x + y; see `receptance.ops.gate.gated_add`."""
    return torch.ops.receptance.gated_add_triton(x, y, r)


def triton_gate_obstacle(r: Tensor, y: Tensor) -> str | None:
    """Return why Triton cannot run these tensors, as a clause, or None if it can."""
    return triton_obstacle(r, y)


def triton_gated_add_obstacle(x: Tensor, y: Tensor, r: Tensor | None) -> str | None:
    """Return why Triton cannot run these tensors, as a clause, or None if it can."""
    if x.dtype != torch.float32:
        return f"it adds to a stream of float32, and this one is {x.dtype}"
    return triton_obstacle(x, y, *([] if r is None else [r]))


@torch.library.custom_op("receptance::gate_triton", mutates_args=())
def _gate(r: Tensor, y: Tensor) -> Tensor:
    r, y = r.contiguous(), y.contiguous()
    out = y.new_empty(y.shape)
    with on_device_of(y):
        kernels_of(__name__).gate_forward[_grid(y)](r, y, out, y.numel(), BLOCK=BLOCK)
    return out


@torch.library.custom_op("receptance::gate_backward_triton", mutates_args=())
def _gate_backward(r: Tensor, y: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    r, y, grad = r.contiguous(), y.contiguous(), grad.contiguous()
    grad_r, grad_y = r.new_empty(r.shape), y.new_empty(y.shape)
    with on_device_of(y):
        kernels_of(__name__).gate_backward[_grid(y)](
            r, y, grad, grad_r, grad_y, y.numel(), BLOCK=BLOCK
        )
    return grad_r, grad_y


@torch.library.custom_op("receptance::gated_add_triton", mutates_args=())
def _gated_add(x: Tensor, y: Tensor, r: Tensor | None) -> Tensor:
    x, y = x.contiguous(), y.contiguous()
    is_gated = r is not None
    r = y if r is None else r.contiguous()  # an address that is not read
    out = x.new_empty(x.shape)
    with on_device_of(x):
        kernels_of(__name__).gated_add_forward[_grid(x)](
            x, y, r, out, x.numel(), IS_GATED=is_gated, BLOCK=BLOCK
        )
    return out


def _grid(tensor: Tensor) -> tuple[int]:
    return (-(-tensor.numel() // BLOCK),)


register_gate("gate_triton", _gate_backward)
register_gated_add("gated_add_triton", _gate_backward)
register_backward("gate_backward_triton", fake_backward, of="Triton gate")
