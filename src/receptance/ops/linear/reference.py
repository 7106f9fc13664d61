"""The definition of `linear`: PyTorch's own."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def linear_reference(
    x: Float[Tensor, "*batch n_in"], weight: Float[Tensor, "n_out n_in"]
) -> Float[Tensor, "*batch n_out"]:
    """Return x Wᵀ; see `receptance.ops.linear.linear`."""
    return F.linear(x, weight)
