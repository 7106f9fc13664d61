"""`squared_relu` and `squared_relu_linear` on a GPU: squares in Triton, the product PyTorch's.

`kernels.py` says what they read and write.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.registration import register_backward, register_forward
from receptance.ops.squared_relu.gradients import gradients, register, save_inputs
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
    def differentiate_(grad_k: Tensor, k: Tensor) -> None:
        _differentiate_square_into(grad_k, grad_k, k)

    wants = (wants_k, wants_weight)
    return gradients(grad, k.contiguous(), weight, wants, _square, differentiate_)


def _grid(tensor: Tensor) -> tuple[int]:
    return (-(-tensor.numel() // BLOCK),)


def _fake_square(k: Tensor) -> Tensor:
    return k.new_empty(k.shape)


def _fake_square_backward(_grad: Tensor, k: Tensor) -> Tensor:
    return k.new_empty(k.shape)


def _differentiate_square(ctx: Any, grad: Tensor) -> Tensor:
    return torch.ops.receptance.squared_relu_backward_triton(grad, *ctx.saved_tensors)


register_forward("squared_relu_triton", _fake_square, save_inputs, _differentiate_square)
register_backward("squared_relu_backward_triton", _fake_square_backward, of="Triton squared_relu")
register(
    "squared_relu_linear_triton",
    "squared_relu_linear_backward_triton",
    of="Triton squared_relu_linear",
)
