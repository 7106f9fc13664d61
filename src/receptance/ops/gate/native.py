"""`gate` and `gated_add` on the CPU, in C++: one pass over memory forward and one backward.

The kernels and their equations: native/include/receptance/kernels.h. Forward saves r and y.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.native import library_obstacle, number_obstacle, refuse, save_nothing


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


def _fake_gate(r: Tensor, y: Tensor, instruction_set: int = 0) -> Tensor:  # noqa: ARG001
    return y.new_empty(y.shape)


def _fake_gate_backward(
    r: Tensor,
    y: Tensor,
    grad: Tensor,  # noqa: ARG001
    instruction_set: int = 0,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return r.new_empty(r.shape), y.new_empty(y.shape)


def _fake_gated_add(
    x: Tensor,
    y: Tensor,  # noqa: ARG001 (the schema's arguments)
    r: Tensor | None,  # noqa: ARG001
    instruction_set: int = 0,  # noqa: ARG001
) -> Tensor:
    return x.new_empty(x.shape)


def _save_gate(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    r, y, ctx.instruction_set = inputs
    ctx.save_for_backward(r, y)


def _differentiate_gate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    r, y = torch.ops.receptance.gate_backward(*ctx.saved_tensors, grad, ctx.instruction_set)
    return r, y, None


def _save_gated_add(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    _, y, r, ctx.instruction_set = inputs
    ctx.dtype, ctx.is_gated = y.dtype, r is not None
    if ctx.is_gated:
        ctx.save_for_backward(y, r)


def _differentiate_gated_add(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.is_gated:
        return grad, grad.to(ctx.dtype), None, None
    y, r = torch.ops.receptance.gated_add_backward(*ctx.saved_tensors, grad, ctx.instruction_set)
    return grad, y, r, None


if library_obstacle() is None:
    torch.library.register_fake("receptance::gate", _fake_gate)
    torch.library.register_fake("receptance::gate_backward", _fake_gate_backward)
    torch.library.register_fake("receptance::gated_add", _fake_gated_add)
    torch.library.register_fake("receptance::gated_add_backward", _fake_gate_backward)
    torch.library.register_autograd(
        "receptance::gate", _differentiate_gate, setup_context=_save_gate
    )
    torch.library.register_autograd(
        "receptance::gated_add", _differentiate_gated_add, setup_context=_save_gated_add
    )
    for each in ("gate", "gated_add"):
        torch.library.register_autograd(
            f"receptance::{each}_backward", refuse(each), setup_context=save_nothing
        )
