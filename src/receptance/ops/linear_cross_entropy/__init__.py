"""The cross-entropy of a head's logits, which never exist all at once."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.linear_cross_entropy.chunked import (
    chunked_obstacle,
    linear_cross_entropy_chunked,
    linear_cross_entropy_native,
    linear_cross_entropy_triton,
    native_obstacle,
    triton_obstacle,
)
from receptance.ops.linear_cross_entropy.quantized import quantized_linear_cross_entropy
from receptance.ops.linear_cross_entropy.reference import linear_cross_entropy_reference

__all__ = [
    "IMPLEMENTATIONS",
    "LinearCrossEntropy",
    "linear_cross_entropy",
    "quantized_linear_cross_entropy",
]

# Fastest first.
IMPLEMENTATIONS = (
    Implementation("native", linear_cross_entropy_native, native_obstacle),
    Implementation("triton", linear_cross_entropy_triton, triton_obstacle),
    Implementation("chunked", linear_cross_entropy_chunked, chunked_obstacle),
    Implementation("reference", linear_cross_entropy_reference, lambda *_: None),
)


class LinearCrossEntropy(NamedTuple):
    """Two means over the tokens that count, in float32 (float64 where the products are).

    And what they are means of.
    """

    cross_entropy: Float[Tensor, ""]
    """In nats a token. Carries no gradient."""
    total: Float[Tensor, ""]
    """With the auxiliary term."""
    costs: Float[Tensor, " N"]
    """The cross-entropy of each token, 0 for one that does not count. Carries no gradient."""


def linear_cross_entropy(
    x: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, " N"],
    *,
    auxiliary: float = 0.0,
    counted: Bool[Tensor, " N"] | None = None,
    implementation: str = "auto",
) -> LinearCrossEntropy:
    """Return what it costs to predict `targets` by the logits x Wᵀ.

    With the logits l_n = W x_n of token n:

        cross_entropy = mean_n (log sum_j exp(l_nj) - l_n,target)
        total         = cross_entropy + auxiliary / 2 mean_n (max_j l_nj)²

    The logits and the products of the gradients are computed in the dtype of W (under autocast, in
    autocast's), all else in float32 (float64 where the products are). Where logits are equal, the
    gradient of their maximum is that of the first.

    Only a chunk's logits exist at a time, and where gradients are wanted they are computed in the
    forward already: backward costs one multiplication. The memory of both gradients is held in
    between. The gradient of W is summed over chunks in float32.

    Args:
        x: What the head reads, N > 0 tokens.
        weight: The head's matrix.
        targets: The tokens that came, each in [0, V).
        auxiliary: The weight of the second term.
        counted: Which tokens the means are over, and gradients come from; None for all. Where it
            holds for none, both results and all gradients are zero.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        Both means, and the cross-entropy of each token. Gradients reach `x` and `weight` from
        `total` only.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, a shape does not fit the
            others, or there is no token.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.
    """
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            "`x` and `weight` must have the shapes [N, C] and [V, C], "
            f"got {list(x.shape)} and {list(weight.shape)}"
        )
    if len(x) == 0 or targets.shape != x.shape[:1]:
        raise ValueError(
            f"`targets` must have one entry for each of at least one row of `x`, {list(x.shape)}, "
            f"got {list(targets.shape)}"
        )
    if counted is not None and counted.shape != targets.shape:
        raise ValueError(
            f"`counted` must have one entry for each row of `x`, {list(x.shape)}, "
            f"got {list(counted.shape)}"
        )
    args = (x, weight, targets.long(), float(auxiliary), _product_dtype(weight), counted)
    chosen = choose("linear_cross_entropy", IMPLEMENTATIONS, implementation, *args)
    return LinearCrossEntropy(*chosen.run(*args))


def _product_dtype(weight: Tensor) -> torch.dtype:
    """Return autocast's dtype where it is on; like PyTorch's, it leaves float64 alone."""
    device = weight.device.type
    has_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if has_autocast and weight.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return weight.dtype
