"""`linear` on the CPU, in C++, without gradients: rows do not depend on each other.

The kernels: native/include/receptance/products.h.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.native import gradient_obstacle, library_obstacle

_SERVED = (torch.float32, torch.bfloat16)


def linear_native(
    x: Float[Tensor, "*batch n_in"],
    weight: Float[Tensor, "n_out n_in"] | Float[Tensor, "words n_out per_word"],
) -> Float[Tensor, "*batch n_out"]:
    """Return x Wᵀ; see `receptance.ops.linear.linear`."""
    return torch.ops.receptance.linear(x, weight)


def native_obstacle(x: Tensor, weight: Tensor) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    if weight.dtype not in _SERVED or x.dtype != weight.dtype:
        return f"it serves float32 and bfloat16, and these tensors are {x.dtype} and {weight.dtype}"
    return gradient_obstacle(x, weight) or library_obstacle()


def _fake(x: Tensor, weight: Tensor, instruction_set: int = 0) -> Tensor:  # noqa: ARG001
    return x.new_empty([*x.shape[:-1], weight.shape[-2 if weight.ndim == 3 else 0]])


if library_obstacle() is None:
    torch.library.register_fake("receptance::linear", _fake)
