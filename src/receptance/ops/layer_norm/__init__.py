"""LayerNorm over the last axis."""

from jaxtyping import Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.layer_norm.native import layer_norm_native, native_obstacle
from receptance.ops.layer_norm.reference import layer_norm_reference
from receptance.ops.layer_norm.triton import layer_norm_obstacle, layer_norm_triton

__all__ = ["IMPLEMENTATIONS", "layer_norm"]

# Fastest first. On the CPU the reference serves gradients and all but float32.
IMPLEMENTATIONS = (
    Implementation("native", layer_norm_native, native_obstacle),
    Implementation("triton", layer_norm_triton, layer_norm_obstacle),
    Implementation("reference", layer_norm_reference, lambda *_: None),
)


def layer_norm(
    x: Float[Tensor, "*batch C"],
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    *,
    eps: float = 1e-5,
    implementation: str = "auto",
) -> Float[Tensor, "*batch C"]:
    """Return (x - mean(x)) / sqrt(variance(x) + eps) · weight + bias, row by row.

    Without gradients on the CPU it has the bits that the decoding step gives.

    Args:
        x: Rows.
        weight: Scale.
        bias: Offset.
        eps: What is added to the variance.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or the shapes do not fit.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.

    Source: Ba et al. 2016, arXiv:1607.06450.
    """
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor.shape != x.shape[-1:]:
            raise ValueError(
                f"`{name}` must have the shape {list(x.shape[-1:])} to go with `x` of "
                f"{list(x.shape)}, got {list(tensor.shape)}"
            )
    args = (x, weight, bias, eps)
    return choose("layer_norm", IMPLEMENTATIONS, implementation, *args).run(*args)
