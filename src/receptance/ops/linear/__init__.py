"""The product with a matrix, y = x Wᵀ.

A matrix W [N, K] may also lie by columns, as [words, N, numbers of a word]: a word is 4 bytes of a
row, one number of float32 or two of bfloat16. Then what is multiplied by 0 need not be read.
"""

from jaxtyping import Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.linear.layout import by_columns, by_rows
from receptance.ops.linear.native import linear_native, native_obstacle
from receptance.ops.linear.reference import linear_reference

__all__ = [
    "IMPLEMENTATIONS",
    "by_columns",
    "by_rows",
    "linear",
    "linear_native",
    "native_obstacle",
]

# Fastest first. The reference also serves gradients, autocast and other devices.
IMPLEMENTATIONS = (
    Implementation("native", linear_native, native_obstacle),
    Implementation("reference", linear_reference, lambda *_: None),
)


def linear(
    x: Float[Tensor, "*batch n_in"],
    weight: Float[Tensor, "n_out n_in"] | Float[Tensor, "words n_out per_word"],
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
        weight: W, or W by columns (`by_columns`), which has the same bits as its result.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        The product in the dtype of `weight` (under autocast, in autocast's). Sums of bfloat16 are
        float32, rounded once.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or the shapes do not fit.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.
    """
    n_in = weight.shape[-1] if weight.ndim == 2 else weight.shape[0] * weight.shape[-1]
    if weight.ndim not in (2, 3) or x.ndim == 0 or x.shape[-1] != n_in:
        raise ValueError(
            f"`x` must have the shape [..., {n_in}] to go with `weight` of "
            f"{list(weight.shape)}, got {list(x.shape)}"
        )
    return choose("linear", IMPLEMENTATIONS, implementation, x, weight).run(x, weight)
