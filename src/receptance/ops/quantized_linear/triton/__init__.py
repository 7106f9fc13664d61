"""`quantized_linear` on a GPU, in Triton: a launch that rounds x, and one for the product.

Nothing is dequantized in memory. `kernels.py` says what they read and write.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.quantized_linear.layout import PANEL_ROWS, QuantizedWeight
from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

_BLOCK = 32  # columns that share a scale
_BLOCKS_OF_PROGRAM = 16
_PANELS_OF_PROGRAM = 2


def rows_of_program(M: int) -> int:
    """Return how many of M rows of x a program of the product has: no more than are needed."""
    return 16 if M <= 16 else 64


def quantized_linear_triton(
    x: Float[Tensor, "*batch n_in"], weight: QuantizedWeight
) -> Float[Tensor, "*batch n_out"]:
    """Return x̂ Ŵᵀ; see `receptance.ops.quantized_linear.quantized_linear`."""
    format = weight.format
    return torch.ops.receptance.quantized_linear_triton(
        x, weight.data, weight.n_out, format.bits, format.group_size, format.has_offset
    )


def quantized_linear_obstacle(x: Tensor, weight: QuantizedWeight) -> str | None:
    """Return why Triton cannot run these tensors, as a clause, or None if it can."""
    return triton_obstacle(x, weight.data)


@torch.library.custom_op("receptance::quantized_linear_triton", mutates_args=())
def _forward(
    x: Tensor, data: Tensor, n_out: int, bits: int, group_size: int, has_offset: bool
) -> Tensor:
    out = x.new_empty([*x.shape[:-1], n_out])
    if out.numel() == 0:
        return out
    K = x.shape[-1]
    rows, data = x.reshape(-1, K).contiguous(), data.contiguous()
    M, n_groups = len(rows), data.shape[1]
    n_blocks = n_groups * group_size // _BLOCK
    levels = rows.new_empty((M, n_blocks * _BLOCK), dtype=torch.int8)
    scales = rows.new_empty((M, n_blocks))
    of_program, columns = rows_of_program(M), PANEL_ROWS * _PANELS_OF_PROGRAM
    kernels = kernels_of(__name__)
    with on_device_of(x):
        # A product that is fused with the sum behind it would be rounded once, not twice.
        kernels.quantize[(M, -(-n_blocks // _BLOCKS_OF_PROGRAM))](
            *(rows, levels, scales, K, n_blocks),
            BLOCKS=_BLOCKS_OF_PROGRAM,
            enable_fp_fusion=False,
        )
        kernels.product[(-(-M // of_program), -(-n_out // columns))](
            *(levels, scales, data, out, M, n_out, n_groups),
            BITS=bits,
            GROUP=group_size,
            HAS_OFFSET=has_offset,
            ROWS=of_program,
            PANELS=_PANELS_OF_PROGRAM,
        )
    return out


@_forward.register_fake
def _fake(
    x: Tensor,
    data: Tensor,  # noqa: ARG001 (the schema's arguments)
    n_out: int,
    bits: int,  # noqa: ARG001
    group_size: int,  # noqa: ARG001
    has_offset: bool,  # noqa: ARG001
) -> Tensor:
    return x.new_empty([*x.shape[:-1], n_out])
