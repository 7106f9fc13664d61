"""The definitions of `half_linear` and `half_square`, in plain PyTorch."""

import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor
from torch.nn import functional as F

ROOT = 1 / 16
"""What a key is multiplied by before it is squared in float16: exact, being a power of two."""


def half_linear_reference(
    x: Float[Tensor, "*batch n_in"], weight: Float16[Tensor, "n_out n_in"]
) -> Float32[Tensor, "*batch n_out"]:
    """Return x Wᵀ; see `receptance.ops.half_linear.half_linear`."""
    return F.linear(x.to(torch.float16).float(), weight.float())


def half_square_reference(k: Float[Tensor, "*shape"]) -> Float16[Tensor, "*shape"]:
    """Return (max(k, 0) / 16)²; see `receptance.ops.half_linear.half_square`."""
    return (torch.relu(k.float()) * ROOT).square().to(torch.float16)
