"""`gate` and `gated_add` on the CPU, in C++: one pass over memory forward and one backward.

The kernels and their equations: native/include/receptance/kernels.h.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.gate.gradients import fake_backward, register_gate, register_gated_add
from receptance.ops.native import library_obstacle, number_obstacle
from receptance.ops.registration import register_backward


def gate_native(r: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return σ(r) ⊙ y; see `receptance.ops.gate.gate`."""
    return torch.ops.receptance.gate(r, y)


def gated_add_native(
    x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], r: Float[Tensor, "*shape"] | None
) -> Float[Tensor, "*shape"]:
    """Return x + σ(r) ⊙ y, or x + y; see `receptance.ops.gate.gated_add`."""
    return torch.ops.receptance.gated_add(x, y, r)


def gate_obstacle(r: Tensor, y: Tensor) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    wide = torch.float64 if y.dtype == torch.float64 else torch.float32
    return number_obstacle(wide, y.dtype, r, y)


def gated_add_obstacle(x: Tensor, y: Tensor, r: Tensor | None) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    return number_obstacle(x.dtype, y.dtype, x, y, *([] if r is None else [r]))


def _gated_add_backward(
    r: Tensor, y: Tensor, grad: Tensor, instruction_set: int
) -> tuple[Tensor, Tensor]:
    grad_y, grad_r = torch.ops.receptance.gated_add_backward(y, r, grad, instruction_set)
    return grad_r, grad_y


if library_obstacle() is None:
    register_gate("gate", torch.ops.receptance.gate_backward)
    register_gated_add("gated_add", _gated_add_backward)
    for each in ("gate", "gated_add"):
        register_backward(f"{each}_backward", fake_backward, of=f"native {each}")
