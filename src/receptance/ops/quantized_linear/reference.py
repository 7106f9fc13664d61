"""The definition of `quantized_linear`, in plain PyTorch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.quantized_linear.layout import QuantizedWeight, dequantize

BLOCK_COLUMNS = 32
"""Columns of the input that share a scale."""

_MAX_LEVEL = 127
_LEAST_SCALE = torch.finfo(torch.float32).tiny  # the inverse of a smaller one may be infinite


def quantized_linear_reference(
    x: Float[Tensor, "*batch n_in"], weight: QuantizedWeight
) -> Float[Tensor, "*batch n_out"]:
    """Return x̂ Ŵᵀ; see `receptance.ops.quantized_linear.quantized_linear`.

    The sum is in float64 and rounded once, so that it has no order.
    """
    return F.linear(quantized_input(x).double(), dequantize(weight).double()).float()


def quantized_input(x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_in"]:
    """Return x̂: `x` rounded to 8 bits in blocks of 32 columns, as float32."""
    n_in = x.shape[-1]
    blocks = F.pad(x, (0, -n_in % BLOCK_COLUMNS)).unflatten(-1, (-1, BLOCK_COLUMNS))
    s = blocks.abs().amax(-1, keepdim=True) / _MAX_LEVEL
    levels = torch.round(blocks * (1 / s))
    # What is not finite stays so: the comparison is false for NaN.
    rounded = torch.where(s < _LEAST_SCALE, 0.0, s * levels)
    return rounded.flatten(-2)[..., :n_in]
