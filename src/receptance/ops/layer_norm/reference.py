"""The definition of `layer_norm`: PyTorch's own."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def layer_norm_reference(
    x: Float[Tensor, "*batch C"], weight: Float[Tensor, " C"], bias: Float[Tensor, " C"], eps: float
) -> Float[Tensor, "*batch C"]:
    """Return the rows normalised; see `receptance.ops.layer_norm.layer_norm`."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
