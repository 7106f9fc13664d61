"""What turns a chunk's logits into their gradient on a GPU, in Triton: one launch.

`kernels.py` says what it reads and writes, `chunked.py` what calls it.
"""

import torch
from torch import Tensor

from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

__all__ = ["ALIGNMENT", "row_gradient", "triton_obstacle"]

ALIGNMENT = 16
"""What the distance of two rows is best a multiple of, in numbers: they are then moved by eights,
as the matrix products' are."""

MOST_OF_A_ROW = 4096
"""Logits that a program has at a time."""
_WARPS = 8


def block(V: int) -> int:
    """Return how many of a row's V logits a program has at a time, a power of 2."""
    return min(1 << max(V - 1, 15).bit_length(), MOST_OF_A_ROW)


def row_gradient(
    logits: Tensor, targets: Tensor, scale: float, auxiliary: float, wants_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Do what `chunked.RowGradient` says.

    Args:
        logits: [n, V], rows of contiguous numbers; overwritten where the gradient is wanted. What
            lies between two rows, and as much behind the last, is overwritten too.
        targets: [n], each in [0, V). A target outside costs NaN.
        scale: What the gradient is multiplied by.
        auxiliary: The weight of the second term.
        wants_gradient: Whether to replace the logits.

    Returns:
        What each row costs and its largest logit, in float32.
    """
    n, V = logits.shape
    cost, largest = (logits.new_empty(n, dtype=torch.float32) for _ in range(2))
    with on_device_of(logits):
        kernels_of(__name__).cross_entropy[(n,)](
            *(logits, targets.contiguous(), cost, largest, scale, auxiliary, V, logits.stride(0)),
            WANTS_GRADIENT=wants_gradient,
            BLOCK=block(V),
            num_warps=_WARPS,
        )
    return cost, largest
