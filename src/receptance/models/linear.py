"""What all versions are made of: the product with a matrix, which chooses precision, and a norm."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from receptance.ops.layer_norm import layer_norm
from receptance.ops.linear import linear
from receptance.ops.squared_relu import squared_relu_linear


class Linear(nn.Module):
    """y = x Wᵀ, computed in the dtype of W whatever that of x. There is no bias.

    A new one holds no values.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))

    @property
    def dtype(self) -> torch.dtype:
        """That of the product: the dtype of W, or autocast's where it is on."""
        weight = self.weight
        device = weight.device.type
        is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        # Autocast leaves float64 alone.
        is_cast = is_cast and weight.dtype != torch.float64
        return torch.get_autocast_dtype(device) if is_cast else weight.dtype

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product in the dtype of W (under autocast, in autocast's)."""
        return linear(x if x.dtype == self.weight.dtype else x.to(self.dtype), self.weight)

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with max(k, 0)², in the same dtype; only k is kept for backward."""
        dtype = self.dtype
        return squared_relu_linear(k.to(dtype), self.weight.to(dtype))

    def packed_weight(self) -> Tensor:
        """Return what the decoding step wants of this layer: W as it is."""
        return self.weight.detach()


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis, with the bits of the decoding step where that runs."""

    def forward(self, input: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:  # noqa: A002
        """Return each row normalised, scaled and shifted."""
        return layer_norm(input, self.weight, self.bias, eps=self.eps)
