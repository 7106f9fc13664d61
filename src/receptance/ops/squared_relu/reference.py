"""The definitions of `squared_relu` and `squared_relu_linear`, in plain PyTorch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def squared_relu_reference(k: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return max(k, 0)²; see `receptance.ops.squared_relu.squared_relu`."""
    return torch.relu(k).square()


def squared_relu_linear_reference(
    k: Float[Tensor, "*batch n_in"], weight: Float[Tensor, "n_out n_in"]
) -> Float[Tensor, "*batch n_out"]:
    """Return max(k, 0)² Wᵀ; see `receptance.ops.squared_relu.squared_relu_linear`."""
    return F.linear(squared_relu_reference(k), weight)
