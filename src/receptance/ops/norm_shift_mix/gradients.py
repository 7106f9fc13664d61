"""What PyTorch is told of the ops of `norm_shift_mix`: what they return, and the gradients.

The native ops and Triton's differ in nothing else than their settings. Forward saves its inputs,
and the mean and the reciprocal deviation of each token; backward normalises again.
"""

from typing import Any

import torch
from torch import Tensor

from receptance.ops.registration import register_backward, register_forward


def register(forward: str, backward: str, of: str) -> None:
    """Tell PyTorch of an implementation's two ops.

    Forward takes the arguments of `norm_shift_mix` and settings of its own, and returns the mixed,
    the last token, and the mean and the reciprocal deviation of each token. Backward takes the
    tensors, those two, the gradients of the mixed and of the last token, and the settings; it
    returns those of x, weight, bias, the mixes and x_last.

    Args:
        forward: A name in `torch.ops.receptance`.
        backward: The same.
        of: The implementation and the op, for messages.
    """
    run_backward = getattr(torch.ops.receptance, backward)

    def differentiate(
        ctx: Any, grad_mixed: list[Tensor | None], grad_last: Tensor | None, *_: Tensor | None
    ) -> tuple[Any, ...]:
        x, weight, bias, x_last, resets, mean, rstd, *mixes = ctx.saved_tensors
        grads = [
            x.new_zeros(x.shape, dtype=ctx.dtype) if grad is None else grad for grad in grad_mixed
        ]
        found = run_backward(
            *(x, weight, bias, mixes, x_last, resets, mean, rstd, grads, grad_last), *ctx.settings
        )
        return *found, None, None, None, *(None for _ in ctx.settings)

    register_forward(forward, _fake_forward, _save, differentiate)
    register_backward(backward, _fake_backward, of)


def _fake_forward(
    x: Tensor,
    _weight: Tensor,
    _bias: Tensor,
    mixes: list[Tensor],
    x_last: Tensor,
    _resets: Tensor | None,
    _eps: float,
    dtype: torch.dtype,
    *_settings: int,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    mixed = [x.new_empty(x.shape, dtype=dtype) for _ in mixes]
    last, mean, rstd = (x.new_empty(shape) for shape in (x_last.shape, x.shape[:2], x.shape[:2]))
    return mixed, last, mean, rstd


def _fake_backward(
    x: Tensor, weight: Tensor, bias: Tensor, mixes: list[Tensor], x_last: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
    dense_x, dense_weight, dense_bias, last = (
        each.new_empty(each.shape) for each in (x, weight, bias, x_last)
    )
    return dense_x, dense_weight, dense_bias, [mix.new_empty(mix.shape) for mix in mixes], last


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    x, weight, bias, mixes, x_last, resets, _, ctx.dtype, *ctx.settings = inputs
    _, _, mean, rstd = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, x_last, resets, mean, rstd, *mixes)
