"""The definitions of `gate` and `gated_add`, in plain PyTorch."""

import torch
from jaxtyping import Float
from torch import Tensor


def gate_reference(
    r: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return σ(r) ⊙ y; see `receptance.ops.gate.gate`."""
    wide = torch.float64 if y.dtype == torch.float64 else torch.float32
    return (torch.sigmoid(r.to(wide)) * y.to(wide)).to(y.dtype)


def gated_add_reference(
    x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], r: Float[Tensor, "*shape"] | None
) -> Float[Tensor, "*shape"]:
    """Return x + σ(r) ⊙ y, or x + y; see `receptance.ops.gate.gated_add`."""
    y = y.to(x.dtype)
    return x + y if r is None else x + torch.sigmoid(r.to(x.dtype)) * y
