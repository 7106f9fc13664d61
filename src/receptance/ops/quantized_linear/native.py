"""`quantized_linear` on the CPU, in C++: dot products of integers, block by block.

The kernels: native/include/receptance/products.h.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.native import library_obstacle
from receptance.ops.quantized_linear.layout import QuantizedWeight


def quantized_linear_native(
    x: Float[Tensor, "*batch n_in"], weight: QuantizedWeight
) -> Float[Tensor, "*batch n_out"]:
    """Return x̂ Ŵᵀ; see `receptance.ops.quantized_linear.quantized_linear`."""
    format = weight.format
    return torch.ops.receptance.quantized_linear(
        x, weight.data, weight.n_out, format.bits, format.group_size, format.has_offset
    )


def native_obstacle(x: Tensor, weight: QuantizedWeight) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    for tensor in (x, weight.data):
        if not tensor.is_cpu:
            return f"it runs on the cpu, and a tensor is on {tensor.device}"
    return library_obstacle()


def _fake(
    x: Tensor,
    weight: Tensor,  # noqa: ARG001 (the schema's arguments)
    n_out: int,
    bits: int,  # noqa: ARG001
    group: int,  # noqa: ARG001
    has_offset: bool,  # noqa: ARG001
    instruction_set: int = 0,  # noqa: ARG001
) -> Tensor:
    return x.new_empty([*x.shape[:-1], n_out])


if library_obstacle() is None:
    torch.library.register_fake("receptance::quantized_linear", _fake)
