"""What PyTorch is told of the ops of `gate` and `gated_add`: what they return, and the gradients.

The native ops and Triton's differ in their settings, and in the op that `gated_add` goes backward
by. Forward saves r and y.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from receptance.ops.registration import register_forward

Backward = Callable[..., tuple[Tensor, Tensor]]


def fake_backward(
    first: Tensor, second: Tensor, _grad: Tensor, *_settings: int
) -> tuple[Tensor, Tensor]:
    """Return what the gradients of r and y are like, in the order in which those are given."""
    return first.new_empty(first.shape), second.new_empty(second.shape)


def register_gate(op: str, backward: Backward) -> None:
    """Tell PyTorch of σ(r) ⊙ y.

    Args:
        op: A name in `torch.ops.receptance`; takes r, y and settings of its own.
        backward: Takes r, y, the product's gradient and the settings, and returns those of r and y.
    """

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_r, grad_y = backward(*ctx.saved_tensors, grad, *ctx.settings)
        return grad_r, grad_y, *(None for _ in ctx.settings)

    register_forward(op, _fake_gate, _save_gate, differentiate)


def register_gated_add(op: str, backward: Backward) -> None:
    """Tell PyTorch of x + σ(r) ⊙ y, or x + y.

    Args:
        op: A name in `torch.ops.receptance`; takes x, y, r or None, and settings of its own.
        backward: Takes r, y, the sum's gradient and the settings, and returns those of r and y.
    """

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        nothing = (None for _ in ctx.settings)
        if not ctx.is_gated:
            return grad, grad.to(ctx.dtype), None, *nothing
        grad_r, grad_y = backward(*ctx.saved_tensors, grad, *ctx.settings)
        return grad, grad_y, grad_r, *nothing

    register_forward(op, _fake_gated_add, _save_gated_add, differentiate)


def _fake_gate(_r: Tensor, y: Tensor, *_settings: int) -> Tensor:
    return y.new_empty(y.shape)


def _fake_gated_add(x: Tensor, _y: Tensor, _r: Tensor | None, *_settings: int) -> Tensor:
    return x.new_empty(x.shape)


def _save_gate(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    r, y, *ctx.settings = inputs
    ctx.save_for_backward(r, y)


def _save_gated_add(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    _, y, r, *ctx.settings = inputs
    ctx.dtype, ctx.is_gated = y.dtype, r is not None
    if ctx.is_gated:
        ctx.save_for_backward(r, y)
