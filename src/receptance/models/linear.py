"""What all versions are made of: the product with a matrix, which chooses precision, and a norm."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from receptance.ops.half_linear import half_linear, half_squared_relu_linear
from receptance.ops.layer_norm import layer_norm
from receptance.ops.linear import by_columns, by_rows, linear
from receptance.ops.squared_relu import squared_relu, squared_relu_linear


class Linear(nn.Module):
    """y = x Wᵀ, computed in the dtype of W whatever that of x. There is no bias.

    Products with a float16 W are float32, since float16 ends too soon for them: decision 0046.
    A new one holds no values.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))

    @property
    def dtype(self) -> torch.dtype:
        """That of what enters W: the dtype of W, or autocast's where it is on."""
        weight = self.weight
        device = weight.device.type
        is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        # Autocast leaves float64 alone.
        is_cast = is_cast and weight.dtype != torch.float64
        return torch.get_autocast_dtype(device) if is_cast else weight.dtype

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product in the dtype of W (of float16 in float32; under autocast, its)."""
        if self.weight.dtype == torch.float16:
            return half_linear(x, self.weight)
        return linear(x if x.dtype == self.weight.dtype else x.to(self.dtype), self.weight)

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with max(k, 0)², in the same dtype; only k is kept for backward."""
        if self.weight.dtype == torch.float16:
            return half_squared_relu_linear(k, self.weight)
        dtype = self.dtype
        return squared_relu_linear(k.to(dtype), self.weight.to(dtype))

    def packed_weight(self) -> Tensor:
        """Return what the decoding step wants of this layer: W as it is."""
        return self.weight.detach()


class ColumnLinear(nn.Module):
    """A `Linear` for inference whose W lies by columns, so that what meets 0 need not be read.

    It has no parameter and cannot be trained; where it was put in the place of a `Linear`, a
    model's `state_dict` still has that one's W.
    """

    columns: Tensor

    def __init__(self, weight: Float[Tensor, "n_out n_in"]) -> None:
        """Lay a matrix by columns.

        Args:
            weight: W, copied.
        """
        super().__init__()
        self.register_buffer("columns", by_columns(weight.detach()), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """That of the product."""
        return self.columns.dtype

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product in the dtype of W, with the bits that `Linear` gives."""
        return linear(x.to(self.dtype), self.columns)

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with max(k, 0)², in the same dtype."""
        return linear(squared_relu(k.to(self.dtype)), self.columns)

    def packed_weight(self) -> Tensor:
        """Return what the decoding step wants of this layer: W by columns."""
        return self.columns

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = by_rows(self.columns)


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis, with the bits of the decoding step where that runs."""

    def forward(self, input: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:  # noqa: A002
        """Return each row normalised, scaled and shifted."""
        return layer_norm(input, self.weight, self.bias, eps=self.eps)
