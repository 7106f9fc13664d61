"""The definition of `linear`: PyTorch's own."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.linear.layout import by_rows


def linear_reference(
    x: Float[Tensor, "*batch n_in"],
    weight: Float[Tensor, "n_out n_in"] | Float[Tensor, "words n_out per_word"],
) -> Float[Tensor, "*batch n_out"]:
    """Return x Wᵀ; see `receptance.ops.linear.linear`."""
    return F.linear(x, by_rows(weight) if weight.ndim == 3 else weight)
