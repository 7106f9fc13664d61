"""The layers of a quantized model, which stand where `models.Linear` and an embedding stood."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from receptance.ops.quantized_linear import (
    QuantizedEmbeddingWeight,
    QuantizedFormat,
    QuantizedWeight,
    dequantize_embedding,
    quantized_linear,
)
from receptance.ops.squared_relu import squared_relu


class QuantizedLinear(nn.Module):
    """y = x̂ Ŵᵀ, in float32; see `receptance.ops.quantized_linear`.

    Ŵ cannot be trained; a gradient passes to x as if that were not rounded. A new one holds no
    values.
    """

    weight: UInt8[Tensor, "P G block_bytes"]

    def __init__(self, n_in: int, n_out: int, format: QuantizedFormat) -> None:
        super().__init__()
        self.n_in, self.n_out, self.format = n_in, n_out, format
        shape = format.weight_shape(n_out, n_in)
        self.register_buffer("weight", torch.empty(shape, dtype=torch.uint8))

    @property
    def dtype(self) -> torch.dtype:
        """That of the product: float32."""
        return torch.float32

    def packed_weight(self) -> QuantizedWeight:
        """Return Ŵ, which shares the memory of this layer."""
        return QuantizedWeight(self.weight, self.format, self.n_out, self.n_in)

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product in float32."""
        return quantized_linear(x.float(), self.packed_weight())

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with max(k, 0)², in float32."""
        return self.forward(squared_relu(k.float()))


class QuantizedEmbedding(nn.Module):
    """The row of each token, of 4 or 8 bit weights. A new one holds no values."""

    weight: UInt8[Tensor, "V row_bytes"]

    def __init__(self, vocab_size: int, n_embd: int, format: QuantizedFormat) -> None:
        super().__init__()
        self.n_embd, self.format = n_embd, format
        shape = format.embedding_shape(vocab_size, n_embd)
        self.register_buffer("weight", torch.empty(shape, dtype=torch.uint8))

    def packed_weight(self) -> QuantizedEmbeddingWeight:
        """Return the rows, which share the memory of this layer."""
        return QuantizedEmbeddingWeight(self.weight, self.format, self.n_embd)

    def forward(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch n_embd"]:
        """Return the rows of `tokens`, in float32."""
        rows = QuantizedEmbeddingWeight(self.weight[tokens.flatten()], self.format, self.n_embd)
        return dequantize_embedding(rows).unflatten(0, tokens.shape)
