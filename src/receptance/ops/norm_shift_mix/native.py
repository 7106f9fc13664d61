"""`norm_shift_mix` on the CPU, in C++: `receptance::norm_shift_mix` and its backward.

The kernels and their equations: native/include/receptance/kernels.h. Forward saves its inputs, and
the mean and the reciprocal deviation of each token; backward normalises again.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.native import library_obstacle, number_obstacle, refuse, save_nothing

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


def _fake_forward(
    x: Tensor,
    weight: Tensor,  # noqa: ARG001 (the schema's arguments)
    bias: Tensor,  # noqa: ARG001
    mixes: list[Tensor],
    x_last: Tensor,
    resets: Tensor | None,  # noqa: ARG001
    eps: float,  # noqa: ARG001
    dtype: torch.dtype,
    instruction_set: int,  # noqa: ARG001
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    mixed = [x.new_empty(x.shape, dtype=dtype) for _ in mixes]
    last, mean, rstd = (x.new_empty(shape) for shape in (x_last.shape, x.shape[:2], x.shape[:2]))
    return mixed, last, mean, rstd


def _fake_backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixes: list[Tensor],
    x_last: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
    dense_x, dense_weight, dense_bias, last = (
        each.new_empty(each.shape) for each in (x, weight, bias, x_last)
    )
    return dense_x, dense_weight, dense_bias, [mix.new_empty(mix.shape) for mix in mixes], last


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    x, weight, bias, mixes, x_last, resets, _, ctx.dtype, ctx.instruction_set = inputs
    _, _, mean, rstd = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, x_last, resets, mean, rstd, *mixes)


def _differentiate(
    ctx: Any,
    grad_mixed: list[Tensor | None],
    grad_last: Tensor | None,
    _grad_mean: Tensor | None,
    _grad_rstd: Tensor | None,
) -> tuple[Any, ...]:
    x, weight, bias, x_last, resets, mean, rstd, *mixes = ctx.saved_tensors
    grads = [x.new_zeros(x.shape, dtype=ctx.dtype) if grad is None else grad for grad in grad_mixed]
    x, weight, bias, mixes, x_last = torch.ops.receptance.norm_shift_mix_backward(
        x, weight, bias, mixes, x_last, resets, mean, rstd, grads, grad_last, ctx.instruction_set
    )
    return x, weight, bias, mixes, x_last, None, None, None, None


if library_obstacle() is None:
    torch.library.register_fake("receptance::norm_shift_mix", _fake_forward)
    torch.library.register_fake("receptance::norm_shift_mix_backward", _fake_backward)
    torch.library.register_autograd(
        "receptance::norm_shift_mix", _differentiate, setup_context=_setup_context
    )
    torch.library.register_autograd(
        "receptance::norm_shift_mix_backward",
        refuse("norm_shift_mix"),
        setup_context=save_nothing,
    )
