"""The definition of `norm_shift_mix`, in plain PyTorch.

Dimensions
    B  sequences in the batch      T  tokens per sequence      C  channels
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def norm_shift_mix_reference(
    x: Float[Tensor, "B T C"],
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    mixes: tuple[Float[Tensor, " C"], ...],
    x_last: Float[Tensor, "B C"],
    resets: Bool[Tensor, "B T"] | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[tuple[Float[Tensor, "B T C"], ...], Float[Tensor, "B C"]]:
    """Return the mixed and the normalised last token; see `receptance.ops.norm_shift_mix`."""
    n = F.layer_norm(x, weight.shape, weight, bias, eps)
    with_last = torch.cat([x_last[:, None], n], dim=1)
    n_prev = with_last[:, :-1]
    if resets is not None:
        n_prev = n_prev.masked_fill(resets[..., None], 0.0)
    mixed = tuple(torch.lerp(n_prev, n, mix).to(dtype) for mix in mixes)
    return mixed, with_last[:, -1]
