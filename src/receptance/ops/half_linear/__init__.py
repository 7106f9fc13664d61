"""Products with a float16 matrix, summed and given in float32.

float16 ends at 65504, and what a deep model adds to its stream does not: the sums of a product stay
in the float32 in which a GPU makes them. What enters a matrix is float16; the square of a channel
mix would pass its end from 256 on, so it enters divided by 256.

    half_square(k) = (max(k, 0) / 16)²          W_v max(k, 0)² = 256 W_v half_square(k)
"""

from jaxtyping import Float, Float16, Float32
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.half_linear.gpu import gpu_obstacle, half_linear_gpu
from receptance.ops.half_linear.reference import (
    ROOT,
    half_linear_reference,
    half_square_reference,
)
from receptance.ops.half_linear.triton import half_square_triton, triton_square_obstacle

__all__ = [
    "IMPLEMENTATIONS",
    "ROOT",
    "SQUARE",
    "SQUARE_IMPLEMENTATIONS",
    "half_linear",
    "half_square",
    "half_squared_relu_linear",
]

SQUARE = 1 / ROOT**2
"""What a product with a `half_square` is multiplied by: 256."""

# Fastest first.
IMPLEMENTATIONS = (
    Implementation("gpu", half_linear_gpu, gpu_obstacle),
    Implementation("reference", half_linear_reference, lambda *_: None),
)
SQUARE_IMPLEMENTATIONS = (
    Implementation("triton", half_square_triton, triton_square_obstacle),
    Implementation("reference", half_square_reference, lambda *_: None),
)


def half_linear(
    x: Float[Tensor, "*batch n_in"],
    weight: Float16[Tensor, "n_out n_in"],
    *,
    implementation: str = "auto",
) -> Float32[Tensor, "*batch n_out"]:
    """Return x Wᵀ in float32, in which it is summed.

    Args:
        x: What is multiplied, rounded to float16.
        weight: W.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Raises:
        ValueError: If `implementation` is no name in the table, or the shapes do not fit.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.
    """
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise ValueError(
            f"`weight` must have the shape [n_out, {x.shape[-1]}] to go with `x` of "
            f"{list(x.shape)}, got {list(weight.shape)}"
        )
    return choose("half_linear", IMPLEMENTATIONS, implementation, x, weight).run(x, weight)


def half_square(
    k: Float[Tensor, "*shape"], *, implementation: str = "auto"
) -> Float16[Tensor, "*shape"]:
    """Return (max(k, 0) / 16)², computed in float32 and rounded once; it is finite below 4095.

    Args:
        k: The key, of any sign.
        implementation: A name in `SQUARE_IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Raises:
        ValueError: If `implementation` is no name in the table.
        ImplementationUnavailableError: If `implementation` cannot run this tensor.
    """
    return choose("half_square", SQUARE_IMPLEMENTATIONS, implementation, k).run(k)


def half_squared_relu_linear(
    k: Float[Tensor, "*batch n_in"], weight: Float16[Tensor, "n_out n_in"]
) -> Float32[Tensor, "*batch n_out"]:
    """Return max(k, 0)² Wᵀ in float32, from `half_square(k)`.

    Args:
        k: The key, of any sign.
        weight: W.

    Raises:
        ValueError: If the shapes do not fit.

    Source: Peng et al. 2023, arXiv:2305.13048, eq. 18.
    """
    return half_linear(half_square(k), weight) * SQUARE
