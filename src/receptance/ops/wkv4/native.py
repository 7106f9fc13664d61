"""`wkv4` on the CPU, in C++: the ops `receptance::wkv4` and `receptance::wkv4_backward`.

The kernels and their equations: native/include/receptance/kernels.h.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.native import library_obstacle
from receptance.ops.wkv4.gradients import register
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


if library_obstacle() is None:
    register("wkv4", "wkv4_backward", tile=CHUNK, of="native wkv4")
