"""What PyTorch is told of the ops of `wkv4`, native or Triton's: what they return, the gradients.

Forward saves its inputs and its borders, the state before every tile of tokens; backward computes
the states in between again.
"""

from typing import Any

import torch
from torch import Tensor

from receptance.ops.registration import register_backward, register_forward


def register(forward: str, backward: str, *, tile: int, of: str) -> None:
    """Tell PyTorch of an implementation's two ops.

    Forward takes the arguments of `wkv4` and settings of its own, and returns y, the state after
    the last token and the borders [3, B, ⌈T / tile⌉, C]. Backward takes what `_save` keeps, the
    gradients of y, num and den, and the settings; it returns those of log_w, u, k, v, num and den.

    Args:
        forward: A name in `torch.ops.receptance`.
        backward: The same.
        tile: Tokens between two borders.
        of: The implementation and the op, for messages.
    """
    run_backward = getattr(torch.ops.receptance, backward)

    def fake(
        _log_w: Tensor,
        _u: Tensor,
        k: Tensor,
        _v: Tensor,
        num: Tensor,
        den: Tensor,
        log_scale: Tensor,
        _resets: Tensor | None,
        *_settings: int,
    ) -> tuple[Tensor, ...]:
        B, T, C = k.shape
        borders = num.new_empty(3, B, (T + tile - 1) // tile, C)
        return *(each.new_empty(each.shape) for each in (k, num, den, log_scale)), borders

    def differentiate(
        ctx: Any,
        grad_y: Tensor | None,
        grad_num: Tensor | None,
        grad_den: Tensor | None,
        *_others: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        log_w, u, k, v, resets, borders = ctx.saved_tensors
        grad_y = torch.zeros_like(k) if grad_y is None else grad_y
        grad_num, grad_den = (
            borders.new_zeros(k.shape[0], k.shape[2]) if grad is None else grad
            for grad in (grad_num, grad_den)
        )
        found = run_backward(
            *(log_w, u, k, v, resets, borders, grad_y, grad_num, grad_den), *ctx.settings
        )
        return *found, None, None, *(None for _ in ctx.settings)

    register_forward(forward, fake, _save, differentiate)
    register_backward(backward, _fake_backward, of)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    log_w, u, k, v, _, _, _, resets, *ctx.settings = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(log_w, u, k, v, resets, output[-1])


def _fake_backward(
    log_w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    _resets: Tensor | None,
    _borders: Tensor,
    _grad_y: Tensor,
    grad_num: Tensor,
    grad_den: Tensor,
    *_settings: int,
) -> tuple[Tensor, ...]:
    return tuple(each.new_empty(each.shape) for each in (log_w, u, k, v, grad_num, grad_den))
