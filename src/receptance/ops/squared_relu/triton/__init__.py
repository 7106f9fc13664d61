"""`squared_relu` and `squared_relu_linear` on a GPU: squares in Triton, the product PyTorch's.

`kernels.py` says what they read and write. Forward saves k (and W); backward squares again.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.native import refuse, save_nothing
from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

BLOCK = 1024
"""Numbers of a program: 16 bytes of bfloat16 a thread, at Triton's 128 threads."""


def squared_relu_triton(k: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return max(k, 0)²; see `receptance.ops.squared_relu.squared_relu`."""
    return torch.ops.receptance.squared_relu_triton(k)


def squared_relu_linear_triton(
    k: Float[Tensor, "*batch n_in"], weight: Float[Tensor, "n_out n_in"]
) -> Float[Tensor, "*batch n_out"]:
    """Return max(k, 0)² Wᵀ; see `receptance.ops.squared_relu.squared_relu_linear`."""
    return torch.ops.receptance.squared_relu_linear_triton(k, weight)


def triton_squared_relu_obstacle(k: Tensor) -> str | None:
    """Return why Triton cannot run this tensor, as a clause, or None if it can."""
    return triton_obstacle(k)


def triton_linear_obstacle(k: Tensor, weight: Tensor) -> str | None:
    """Return why Triton cannot run these tensors, as a clause, or None if it can."""
    return triton_obstacle(k, weight)


@torch.library.custom_op("receptance::squared_relu_triton", mutates_args=())
def _square(k: Tensor) -> Tensor:
    k = k.contiguous()
    out = k.new_empty(k.shape)
    with on_device_of(k):
        kernels_of(__name__).squared_relu_forward[_grid(k)](k, out, k.numel(), BLOCK=BLOCK)
    return out


@torch.library.custom_op("receptance::squared_relu_backward_triton", mutates_args=())
def _square_backward(grad: Tensor, k: Tensor) -> Tensor:
    k = k.contiguous()
    grad_k = k.new_empty(k.shape)
    _differentiate_square_into(grad_k, grad.contiguous(), k)
    return grad_k


def _differentiate_square_into(grad_k: Tensor, grad: Tensor, k: Tensor) -> None:
    """Put 2 max(k, 0) ⊙ grad into `grad_k`, which may be `grad`; all are contiguous."""
    with on_device_of(k):
        kernels_of(__name__).squared_relu_backward[_grid(k)](
            grad, k, grad_k, k.numel(), BLOCK=BLOCK
        )


@torch.library.custom_op("receptance::squared_relu_linear_triton", mutates_args=())
def _linear(k: Tensor, weight: Tensor) -> Tensor:
    return F.linear(_square(k), weight)


@torch.library.custom_op("receptance::squared_relu_linear_backward_triton", mutates_args=())
def _linear_backward(
    grad: Tensor, k: Tensor, weight: Tensor, wants_k: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of k and W; an empty one for what is not wanted."""
    k = k.contiguous()
    grad_k, grad_weight = k.new_empty(0), weight.new_empty(0)
    grad_rows = grad.reshape(-1, grad.shape[-1])
    if wants_weight:
        square = _square(k)
        grad_weight = grad_rows.t() @ square.view(-1, k.shape[-1])
        del square  # its memory is the next array's
    if wants_k:
        grad_k = (grad_rows @ weight).view(k.shape)
        _differentiate_square_into(grad_k, grad_k, k)
    return grad_k, grad_weight


def _grid(tensor: Tensor) -> tuple[int]:
    return (-(-tensor.numel() // BLOCK),)


@_square.register_fake
def _fake_square(k: Tensor) -> Tensor:
    return k.new_empty(k.shape)


@_square_backward.register_fake
def _fake_square_backward(grad: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001 (the schema's)
    return k.new_empty(k.shape)


@_linear.register_fake
def _fake_linear(k: Tensor, weight: Tensor) -> Tensor:
    return k.new_empty([*k.shape[:-1], weight.shape[0]])


@_linear_backward.register_fake
def _fake_linear_backward(
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


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _differentiate_square(ctx: Any, grad: Tensor) -> Tensor:
    return torch.ops.receptance.squared_relu_backward_triton(grad, *ctx.saved_tensors)


def _differentiate_linear(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wants = ctx.needs_input_grad
    backward = torch.ops.receptance.squared_relu_linear_backward_triton
    found = backward(grad, *ctx.saved_tensors, *wants)
    return tuple(each if wanted else None for each, wanted in zip(found, wants, strict=True))


_square.register_autograd(_differentiate_square, setup_context=_save_inputs)
_linear.register_autograd(_differentiate_linear, setup_context=_save_inputs)
_square_backward.register_autograd(refuse("squared_relu", "Triton"), setup_context=save_nothing)
_linear_backward.register_autograd(
    refuse("squared_relu_linear", "Triton"), setup_context=save_nothing
)
