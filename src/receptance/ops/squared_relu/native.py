"""`squared_relu_linear` on the CPU: the square and its gradient in C++, the product PyTorch's.

The kernels: native/include/receptance/kernels.h. Forward saves k and W; backward squares again.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.linear import linear_native
from receptance.ops.linear import native_obstacle as linear_obstacle
from receptance.ops.native import (
    gradient_obstacle,
    library_obstacle,
    number_obstacle,
    refuse,
    save_nothing,
)


def squared_relu_native(k: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return max(k, 0)²; see `receptance.ops.squared_relu.squared_relu`."""
    return torch.ops.receptance.squared_relu(k)


def squared_relu_obstacle(k: Tensor) -> str | None:
    """Return why the extension cannot run this tensor, as a clause, or None if it can."""
    wide = torch.float64 if k.dtype == torch.float64 else torch.float32
    return gradient_obstacle(k) or number_obstacle(wide, k.dtype, k)


def squared_relu_linear_native(
    k: Float[Tensor, "*batch n_in"], weight: Float[Tensor, "n_out n_in"]
) -> Float[Tensor, "*batch n_out"]:
    """Return max(k, 0)² Wᵀ; see `receptance.ops.squared_relu.squared_relu_linear`."""
    if linear_obstacle(k, weight) is None:  # no gradient is wanted
        return linear_native(torch.ops.receptance.squared_relu(k), weight)
    return torch.ops.receptance.squared_relu_linear(k, weight)


def native_obstacle(k: Tensor, weight: Tensor) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    wide = torch.float64 if k.dtype == torch.float64 else torch.float32
    return number_obstacle(wide, k.dtype, k, weight)


def _forward(k: Tensor, weight: Tensor) -> Tensor:
    return F.linear(torch.ops.receptance.squared_relu(k), weight)


def _backward(
    grad: Tensor, k: Tensor, weight: Tensor, wants_k: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of k and W; an empty one for what is not wanted."""
    grad_k, grad_weight = k.new_empty(0), weight.new_empty(0)
    grad_rows = grad.reshape(-1, grad.shape[-1])
    if wants_weight:
        square = torch.ops.receptance.squared_relu(k)
        grad_weight = grad_rows.t() @ square.view(-1, k.shape[-1])
        del square  # its memory is the next array's
    if wants_k:
        grad_k = (grad_rows @ weight).view(k.shape)
        torch.ops.receptance.squared_relu_backward_(grad_k, k)
    return grad_k, grad_weight


def _fake_square(k: Tensor, instruction_set: int = 0) -> Tensor:  # noqa: ARG001
    return k.new_empty(k.shape)


def _fake_square_backward(grad: Tensor, k: Tensor, instruction_set: int = 0) -> None:
    """Change `grad` in place, whose shape and dtype stay."""


def _fake_forward(k: Tensor, weight: Tensor) -> Tensor:
    return k.new_empty([*k.shape[:-1], weight.shape[0]])


def _fake_backward(
    grad: Tensor,  # noqa: ARG001 (the schema's arguments)
    k: Tensor,
    weight: Tensor,
    wants_k: bool,
    wants_weight: bool,
) -> tuple[Tensor, Tensor]:
    return (
        k.new_empty(k.shape if wants_k else 0),
        weight.new_empty(weight.shape if wants_weight else 0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    wants = ctx.needs_input_grad
    found = torch.ops.receptance.squared_relu_linear_backward(grad, *ctx.saved_tensors, *wants)
    grad_k, grad_weight = (
        each if wanted else None for each, wanted in zip(found, wants, strict=True)
    )
    return grad_k, grad_weight


if library_obstacle() is None:
    torch.library.define("receptance::squared_relu_linear", "(Tensor k, Tensor weight) -> Tensor")
    torch.library.define(
        "receptance::squared_relu_linear_backward",
        "(Tensor grad, Tensor k, Tensor weight, bool wants_k, bool wants_weight)"
        " -> (Tensor k, Tensor weight)",
    )
    torch.library.impl("receptance::squared_relu_linear", "CPU", _forward)
    torch.library.impl("receptance::squared_relu_linear_backward", "CPU", _backward)
    torch.library.register_fake("receptance::squared_relu", _fake_square)
    torch.library.register_fake("receptance::squared_relu_backward_", _fake_square_backward)
    torch.library.register_fake("receptance::squared_relu_linear", _fake_forward)
    torch.library.register_fake("receptance::squared_relu_linear_backward", _fake_backward)
    torch.library.register_autograd(
        "receptance::squared_relu_linear", _differentiate, setup_context=_setup_context
    )
    torch.library.register_autograd(
        "receptance::squared_relu_linear_backward",
        refuse("squared_relu_linear"),
        setup_context=save_nothing,
    )
