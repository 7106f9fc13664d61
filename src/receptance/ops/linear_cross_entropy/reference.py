"""The definition of `linear_cross_entropy`, in plain PyTorch, with all logits at once.

Dimensions
    N  tokens      C  channels      V  vocabulary
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F


def linear_cross_entropy_reference(
    x: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int64[Tensor, " N"],
    auxiliary: float,
    product: torch.dtype,
    counted: Bool[Tensor, " N"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, " N"]]:
    """Return the cross-entropy, the total and the costs; see `linear_cross_entropy`."""
    costs = x.new_zeros(len(x), dtype=sums_dtype(product))
    which = slice(None) if counted is None else counted
    if counted is not None:
        x, targets = x[counted], targets[counted]
    if len(x) == 0:
        zero = ((x.sum() + weight.sum()) * 0).to(sums_dtype(product))
        return zero.detach(), zero, costs
    logits = F.linear(x.to(product), weight.to(product)).to(sums_dtype(product))
    cross_entropy = F.cross_entropy(logits, targets)
    total = cross_entropy
    if auxiliary != 0:
        total = cross_entropy + auxiliary / 2 * logits.max(dim=-1).values.square().mean()
    costs[which] = F.cross_entropy(logits.detach(), targets, reduction="none")
    return cross_entropy.detach(), total, costs


def sums_dtype(product: torch.dtype) -> torch.dtype:
    """Return the dtype in which logits of `product` are exponentiated and summed."""
    return torch.float64 if product == torch.float64 else torch.float32
