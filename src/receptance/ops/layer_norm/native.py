"""`layer_norm` on the CPU, in C++, without gradients.

The kernel: native/include/receptance/products.h.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.native import gradient_obstacle, library_obstacle


def layer_norm_native(
    x: Float[Tensor, "*batch C"], weight: Float[Tensor, " C"], bias: Float[Tensor, " C"], eps: float
) -> Float[Tensor, "*batch C"]:
    """Return the rows normalised; see `receptance.ops.layer_norm.layer_norm`."""
    return torch.ops.receptance.layer_norm(x, weight, bias, eps)


def native_obstacle(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> str | None:  # noqa: ARG001
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    for tensor in (x, weight, bias):
        if tensor.dtype != torch.float32:
            return f"it serves float32, and a tensor is {tensor.dtype}"
    return gradient_obstacle(x, weight, bias) or library_obstacle()


def _fake(
    x: Tensor,
    weight: Tensor,  # noqa: ARG001 (the schema's arguments)
    bias: Tensor,  # noqa: ARG001
    eps: float,  # noqa: ARG001
    instruction_set: int = 0,  # noqa: ARG001
) -> Tensor:
    return x.new_empty(x.shape)


if library_obstacle() is None:
    torch.library.register_fake("receptance::layer_norm", _fake)
