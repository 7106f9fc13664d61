"""The inside of the channel mix: a squared ReLU that goes straight into a matrix."""

from jaxtyping import Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.squared_relu.native import (
    native_obstacle,
    squared_relu_linear_native,
    squared_relu_native,
    squared_relu_obstacle,
)
from receptance.ops.squared_relu.reference import (
    squared_relu_linear_reference,
    squared_relu_reference,
)
from receptance.ops.squared_relu.triton import (
    squared_relu_linear_triton,
    squared_relu_triton,
    triton_linear_obstacle,
    triton_squared_relu_obstacle,
)

__all__ = [
    "IMPLEMENTATIONS",
    "SQUARED_RELU_IMPLEMENTATIONS",
    "squared_relu",
    "squared_relu_linear",
]

# Fastest first.
IMPLEMENTATIONS = (
    Implementation("native", squared_relu_linear_native, native_obstacle),
    Implementation("triton", squared_relu_linear_triton, triton_linear_obstacle),
    Implementation("reference", squared_relu_linear_reference, lambda *_: None),
)

# The native one has no gradient.
SQUARED_RELU_IMPLEMENTATIONS = (
    Implementation("native", squared_relu_native, squared_relu_obstacle),
    Implementation("triton", squared_relu_triton, triton_squared_relu_obstacle),
    Implementation("reference", squared_relu_reference, lambda *_: None),
)


def squared_relu(
    k: Float[Tensor, "*shape"], *, implementation: str = "auto"
) -> Float[Tensor, "*shape"]:
    """Return max(k, 0)², rounded once to the dtype of `k`.

    Args:
        k: The key, of any sign.
        implementation: A name in `SQUARED_RELU_IMPLEMENTATIONS`, or "auto" for the fastest that
            can run.

    Raises:
        ValueError: If `implementation` is no name in the table.
        ImplementationUnavailableError: If `implementation` cannot run this tensor.

    Source: So et al. 2021, arXiv:2109.08668.
    """
    return choose("squared_relu", SQUARED_RELU_IMPLEMENTATIONS, implementation, k).run(k)


def squared_relu_linear(
    k: Float[Tensor, "*batch n_in"],
    weight: Float[Tensor, "n_out n_in"],
    *,
    implementation: str = "auto",
) -> Float[Tensor, "*batch n_out"]:
    """Return max(k, 0)² Wᵀ.

    One op, so that backward keeps k alone: the square, the widest array of a layer, is computed
    again instead of kept (but by the reference), and its gradient becomes that of k in place.

    Args:
        k: The key, of any sign.
        weight: W, in the dtype of `k`.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        The product in the dtype of `k`. The square is rounded to it before it enters the matrix.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or `k` and `weight` do not
            fit together.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.

    Source: Peng et al. 2023, arXiv:2305.13048, eq. 18; So et al. 2021, arXiv:2109.08668.
    """
    if weight.ndim != 2 or k.shape[-1:] != weight.shape[-1:]:
        raise ValueError(
            f"`weight` must have the shape [n_out, {k.shape[-1]}] to go with `k` of "
            f"{list(k.shape)}, got {list(weight.shape)}"
        )
    if weight.dtype != k.dtype:
        raise ValueError(f"`weight` must have the dtype of `k`, {k.dtype}, got {weight.dtype}")
    args = (k, weight)
    return choose("squared_relu_linear", IMPLEMENTATIONS, implementation, *args).run(*args)
