"""`wkv4` on the CPU, in C++: the ops `receptance::wkv4` and `receptance::wkv4_backward`.

The kernels and their equations: native/include/receptance/kernels.h. Forward saves its inputs and
the state before every chunk of tokens; backward computes the states in between again.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.native import library_obstacle, refuse, save_nothing
from receptance.ops.wkv4.reference import WKV4State

# The dtype of log_w, u and the state that goes with a dtype of k and v.
_STATE_DTYPES = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float64: torch.float64,
}

# Tokens between two states that forward saves: `wkv4_chunk` of native/src/wkv4_kernels.h.
CHUNK = 32


def wkv4_native(
    log_w: Float[Tensor, " C"],
    u: Float[Tensor, " C"],
    k: Float[Tensor, "B T C"],
    v: Float[Tensor, "B T C"],
    state: WKV4State,
    resets: Bool[Tensor, "B T"] | None,
) -> tuple[Float[Tensor, "B T C"], WKV4State]:
    """Return y and the state after the last token; see `receptance.ops.wkv4.wkv4`."""
    y, *after, _ = torch.ops.receptance.wkv4(log_w, u, k, v, *state, resets)
    return y, WKV4State(*after)


def native_obstacle(
    log_w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKV4State, resets: Tensor | None
) -> str | None:
    """Return why the extension cannot run these tensors, as a clause, or None if it can."""
    tensors = [log_w, u, k, v, *state] if resets is None else [log_w, u, k, v, *state, resets]
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"it runs on the cpu, and a tensor is on {tensor.device}"
    if k.dtype not in _STATE_DTYPES:
        return f"it serves float32, bfloat16 and float64, and `k` is {k.dtype}"
    if v.dtype != k.dtype:
        return f"`v` must have the dtype of `k`, {k.dtype}, and is {v.dtype}"
    for tensor in (log_w, u, *state):
        if tensor.dtype != _STATE_DTYPES[k.dtype]:
            return (
                f"`log_w`, `u` and the state must be {_STATE_DTYPES[k.dtype]} where `k` is "
                f"{k.dtype}, and one is {tensor.dtype}"
            )
    return library_obstacle()


def _fake_forward(
    log_w: Tensor,  # noqa: ARG001 (the schema's arguments)
    u: Tensor,  # noqa: ARG001
    k: Tensor,
    v: Tensor,  # noqa: ARG001
    num: Tensor,
    den: Tensor,
    log_scale: Tensor,
    resets: Tensor | None,  # noqa: ARG001
    form: int = 0,  # noqa: ARG001
    instruction_set: int = 0,  # noqa: ARG001
) -> tuple[Tensor, ...]:
    B, T, C = k.shape
    borders = num.new_empty(3, B, (T + CHUNK - 1) // CHUNK, C)
    return *(_dense_like(each) for each in (k, num, den, log_scale)), borders


def _fake_backward(
    log_w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    resets: Tensor | None,  # noqa: ARG001
    borders: Tensor,  # noqa: ARG001
    grad_y: Tensor,  # noqa: ARG001
    grad_num: Tensor,
    grad_den: Tensor,
    form: int = 0,  # noqa: ARG001
    instruction_set: int = 0,  # noqa: ARG001
) -> tuple[Tensor, ...]:
    return tuple(_dense_like(each) for each in (log_w, u, k, v, grad_num, grad_den))


def _dense_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    log_w, u, k, v, _, _, _, resets, ctx.form, ctx.instruction_set = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(log_w, u, k, v, resets, output[-1])


def _differentiate(
    ctx: Any,
    grad_y: Tensor | None,
    grad_num: Tensor | None,
    grad_den: Tensor | None,
    _grad_log_scale: Tensor | None,
    _grad_borders: Tensor | None,
) -> tuple[Tensor | None, ...]:
    log_w, u, k, v, resets, borders = ctx.saved_tensors
    grad_y = torch.zeros_like(k) if grad_y is None else grad_y
    grad_num, grad_den = (
        borders.new_zeros(k.shape[0], k.shape[2]) if grad is None else grad
        for grad in (grad_num, grad_den)
    )
    log_w, u, k, v, num, den = torch.ops.receptance.wkv4_backward(
        *(log_w, u, k, v, resets, borders, grad_y, grad_num, grad_den),
        *(ctx.form, ctx.instruction_set),
    )
    return log_w, u, k, v, num, den, None, None, None, None


if library_obstacle() is None:
    torch.library.register_fake("receptance::wkv4", _fake_forward)
    torch.library.register_fake("receptance::wkv4_backward", _fake_backward)
    torch.library.register_autograd(
        "receptance::wkv4", _differentiate, setup_context=_setup_context
    )
    torch.library.register_autograd(
        "receptance::wkv4_backward", refuse("wkv4"), setup_context=save_nothing
    )
