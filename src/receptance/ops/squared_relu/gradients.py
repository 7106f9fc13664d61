"""The gradients of `squared_relu_linear`, and what PyTorch is told of its ops.

The native ops and Triton's differ in who squares: the products are PyTorch's in both. Forward saves
k and W; backward squares again.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from receptance.ops.registration import register_backward, register_forward


def gradients(
    grad: Tensor,
    k: Tensor,
    weight: Tensor,
    wants: tuple[bool, bool],
    square: Callable[[Tensor], Tensor],
    differentiate_: Callable[[Tensor, Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of k and W; an empty one for what is not wanted.

    Args:
        grad: The gradient of max(k, 0)² Wᵀ.
        k: What was squared.
        weight: W.
        wants: Whether those of k and of W are wanted.
        square: Returns max(k, 0)², contiguous.
        differentiate_: Takes the gradient of the square, contiguous, and k, and makes it that of k
            in place.
    """
    wants_k, wants_weight = wants
    grad_k, grad_weight = k.new_empty(0), weight.new_empty(0)
    grad_rows = grad.reshape(-1, grad.shape[-1])
    if wants_weight:
        squared = square(k)
        grad_weight = grad_rows.t() @ squared.view(-1, k.shape[-1])
        del squared  # its memory is the next array's
    if wants_k:
        grad_k = (grad_rows @ weight).view(k.shape)
        differentiate_(grad_k, k)
    return grad_k, grad_weight


def register(forward: str, backward: str, of: str) -> None:
    """Tell PyTorch of an implementation's two ops.

    Forward takes k and W. Backward takes the product's gradient, k, W, and whether the gradients of
    each are wanted; it returns both, an empty one for what is not wanted.

    Args:
        forward: A name in `torch.ops.receptance`.
        backward: The same.
        of: The implementation and the op, for messages.
    """
    run_backward = getattr(torch.ops.receptance, backward)

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wants = ctx.needs_input_grad
        found = run_backward(grad, *ctx.saved_tensors, *wants)
        return tuple(each if wanted else None for each, wanted in zip(found, wants, strict=True))

    register_forward(forward, _fake_forward, save_inputs, differentiate)
    register_backward(backward, _fake_backward, of)


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    """Save all tensors that forward took."""
    ctx.save_for_backward(*inputs)


def _fake_forward(k: Tensor, weight: Tensor) -> Tensor:
    return k.new_empty([*k.shape[:-1], weight.shape[0]])


def _fake_backward(
    _grad: Tensor, k: Tensor, weight: Tensor, wants_k: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    return (
        k.new_empty(k.shape if wants_k else 0),
        weight.new_empty(weight.shape if wants_weight else 0),
    )
