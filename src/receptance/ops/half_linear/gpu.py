"""`half_linear` on a GPU: PyTorch's product that reads float16 and gives float32."""

import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor


def half_linear_gpu(
    x: Float[Tensor, "*batch n_in"], weight: Float16[Tensor, "n_out n_in"]
) -> Float32[Tensor, "*batch n_out"]:
    """Return x Wᵀ; see `receptance.ops.half_linear.half_linear`."""
    rows = x.to(torch.float16).reshape(-1, x.shape[-1])
    y = torch.mm(rows, weight.t(), out_dtype=torch.float32)
    return y.view(*x.shape[:-1], len(weight))


def gpu_obstacle(x: Tensor, weight: Tensor) -> str | None:
    """Return why PyTorch cannot run these tensors so, as a clause, or None if it can."""
    for tensor in (x, weight):
        if tensor.device.type != "cuda":
            return f"it runs on a GPU, and a tensor is on {tensor.device}"
        if tensor.requires_grad and torch.is_grad_enabled():
            return "it has no gradient, and one is wanted; use torch.no_grad()"
    if torch.version.hip is not None:
        return "PyTorch's builds for AMD give the product of float16 in float16 alone"
    return None
