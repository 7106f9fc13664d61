"""`norm_shift_mix` on the CPU, in C++: `receptance::norm_shift_mix` and its backward.

The kernels and their equations: native/include/receptance/kernels.h.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.native import library_obstacle, number_obstacle
from receptance.ops.norm_shift_mix.gradients import register

# The instruction set to run. It has no default in the schema: PyTorch's gradients of an op that
# takes a list of tensors want every argument to be given.
WIDEST = 0


def norm_shift_mix_native(
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
    mixed, last, _, _ = torch.ops.receptance.norm_shift_mix(
        x, weight, bias, list(mixes), x_last, resets, eps, dtype, WIDEST
    )
    return tuple(mixed), last


def native_obstacle(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixes: tuple[Tensor, ...],
    x_last: Tensor,
    resets: Tensor | None,
    eps: float,  # noqa: ARG001 (the arguments of every implementation)
    dtype: torch.dtype,
) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    if len(mixes) not in (2, 3):
        return f"it serves 2 or 3 mixes, and there are {len(mixes)}"
    flags = [] if resets is None else [resets]
    return number_obstacle(x.dtype, dtype, x, weight, bias, *mixes, x_last, *flags)


if library_obstacle() is None:
    register("norm_shift_mix", "norm_shift_mix_backward", of="native norm_shift_mix")
