"""The product with a matrix, y = x Wᵀ."""

from jaxtyping import Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.linear.native import linear_native, native_obstacle
from receptance.ops.linear.reference import linear_reference

__all__ = ["IMPLEMENTATIONS", "linear", "linear_native", "native_obstacle"]

# Fastest first. The reference also serves gradients, autocast and other devices.
IMPLEMENTATIONS = (
    Implementation("native", linear_native, native_obstacle),
    Implementation("reference", linear_reference, lambda *_: None),
)


def linear(
    x: Float[Tensor, "*batch n_in"],
    weight: Float[Tensor, "n_out n_in"],
    *,
    implementation: str = "auto",
) -> Float[Tensor, "*batch n_out"]:
    """Return x Wᵀ.

    Where no gradient is wanted, on the CPU, a row of the result depends on its own row of x alone:
    not on the other rows, nor on how many there are. So a sequence gives the same bits in any
    company, and a prompt the same however it is cut. (PyTorch's product chooses its order of
    summation by shape.)

    Args:
        x: What is multiplied, in the dtype of `weight` unless autocast is on.
        weight: W.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        The product in the dtype of `weight` (under autocast, in autocast's). Sums of bfloat16 are
        float32, rounded once.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or the shapes do not fit.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.
    """
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"`x` must have the shape [..., {weight.shape[-1]}] to go with `weight` of "
            f"{list(weight.shape)}, got {list(x.shape)}"
        )
    return choose("linear", IMPLEMENTATIONS, implementation, x, weight).run(x, weight)
