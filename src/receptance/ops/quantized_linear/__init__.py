"""The product with a matrix of 4 or 8 bit weights: y = x Ŵᵀ, and the bytes that such a matrix is.

Dimensions
    N  rows (`n_out`)         P  panels of 32 rows: ⌈N / 32⌉
    K  columns (`n_in`)       G  groups of g columns (`group_size`): ⌈K / g⌉

`layout.py` says what the bytes mean.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.quantized_linear.layout import (
    PANEL_ROWS,
    QuantizedEmbeddingWeight,
    QuantizedFormat,
    QuantizedWeight,
    dequantize,
    dequantize_embedding,
    pack_embedding,
    pack_weight,
)
from receptance.ops.quantized_linear.native import native_obstacle, quantized_linear_native
from receptance.ops.quantized_linear.reference import (
    BLOCK_COLUMNS,
    quantized_input,
    quantized_linear_reference,
)
from receptance.ops.quantized_linear.straight_through import (
    input_gradient,
    product_dtype,
    with_input_gradient,
)
from receptance.ops.quantized_linear.triton import (
    quantized_linear_obstacle,
    quantized_linear_triton,
)

__all__ = [
    "BLOCK_COLUMNS",
    "IMPLEMENTATIONS",
    "PANEL_ROWS",
    "QuantizedEmbeddingWeight",
    "QuantizedFormat",
    "QuantizedWeight",
    "dequantize",
    "dequantize_embedding",
    "input_gradient",
    "pack_embedding",
    "pack_weight",
    "product_dtype",
    "quantized_input",
    "quantized_linear",
]

# Fastest first.
IMPLEMENTATIONS = (
    Implementation("native", quantized_linear_native, native_obstacle),
    Implementation("triton", quantized_linear_triton, quantized_linear_obstacle),
    Implementation("reference", quantized_linear_reference, lambda *_: None),
)


def quantized_linear(
    x: Float[Tensor, "*batch n_in"], weight: QuantizedWeight, *, implementation: str = "auto"
) -> Float[Tensor, "*batch n_out"]:
    """Return x̂ Ŵᵀ, where x̂ is x rounded to 8 bits in blocks of 32 columns.

        s_b   = max_{k in b} |x_k| / 127            of each block b of 32 columns
        x̂_k   = s_b · round(x_k · (1 / s_b))        halves to even; 0 where s_b is 0 or subnormal
        ŵ_nk  = scale · (q_nk - z) + offset         of the group of row n that k lies in
        y_n   = Σ_k ŵ_nk x̂_k

    With both factors integers, up to their scales, the sum of a block is one of small integers,
    which processors compute at four times the rate of float32. s_b, its inverse and the products
    with them are float32. The last block is shorter where n_in is no multiple of 32.

    The gradient that reaches x is dy Ŵ, as if x were not rounded; its factors are in autocast's
    dtype where that is on. So what is trained through it is what runs.

    Args:
        x: What is multiplied, in float32.
        weight: Ŵ, packed.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        The product in float32.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or `x` is not float32 or
            does not fit `weight`.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.
    """
    if x.ndim == 0 or x.shape[-1] != weight.n_in:
        raise ValueError(
            f"`x` must have the shape [..., {weight.n_in}] to go with this weight, got "
            f"{list(x.shape)}"
        )
    if x.dtype != torch.float32:
        raise ValueError(f"`x` must be torch.float32, got {x.dtype}")
    args = (x, weight)
    chosen = choose("quantized_linear", IMPLEMENTATIONS, implementation, *args)
    if torch.is_grad_enabled() and x.requires_grad:
        return with_input_gradient(chosen.run, *args)
    return chosen.run(*args)
