"""`squared_relu_linear` on the CPU: the square and its gradient in C++, the product PyTorch's.

The kernels: native/include/receptance/kernels.h.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.linear import linear_native
from receptance.ops.linear import native_obstacle as linear_obstacle
from receptance.ops.native import gradient_obstacle, library_obstacle, number_obstacle
from receptance.ops.squared_relu.gradients import gradients, register


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
    ops, wants = torch.ops.receptance, (wants_k, wants_weight)
    return gradients(grad, k, weight, wants, ops.squared_relu, ops.squared_relu_backward_)


def _fake_square(k: Tensor, instruction_set: int = 0) -> Tensor:  # noqa: ARG001
    return k.new_empty(k.shape)


def _fake_square_backward(grad: Tensor, k: Tensor, instruction_set: int = 0) -> None:
    """Change `grad` in place, whose shape and dtype stay."""


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
    register("squared_relu_linear", "squared_relu_linear_backward", of="native squared_relu_linear")
