"""The WKV operator of RWKV-4."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.dispatch import Implementation, choose
from receptance.ops.wkv4.native import native_obstacle, wkv4_native
from receptance.ops.wkv4.reference import WKV4State, wkv4_reference
from receptance.ops.wkv4.triton import wkv4_triton, wkv4_triton_obstacle

__all__ = ["IMPLEMENTATIONS", "WKV4State", "wkv4"]

# Fastest first.
IMPLEMENTATIONS = (
    Implementation("native", wkv4_native, native_obstacle),
    Implementation("triton", wkv4_triton, wkv4_triton_obstacle),
    Implementation("reference", wkv4_reference, lambda *_: None),
)


def wkv4(
    log_w: Float[Tensor, " C"],
    u: Float[Tensor, " C"],
    k: Float[Tensor, "B T C"],
    v: Float[Tensor, "B T C"],
    state: WKV4State,
    *,
    resets: Bool[Tensor, "B T"] | None = None,
    implementation: str = "auto",
) -> tuple[Float[Tensor, "B T C"], WKV4State]:
    """Average the values seen so far, weighted by their keys and by their age.

    For every sequence and channel, with a_0 and b_0 from `state`:

        y_t = (a_{t-1} + exp(u + k_t) v_t) / (b_{t-1} + exp(u + k_t))
        a_t = exp(log_w) a_{t-1} + exp(k_t) v_t
        b_t = exp(log_w) b_{t-1} + exp(k_t)

    It is computed with both sums scaled by their largest term, so that no key overflows. A token
    costs O(C), however many came before it.

    Args:
        log_w: Natural log of the decay per token, at most 0, in float32 (float64 if `k` is), as
            are `u` and `state`. RWKV-4's is -exp(time_decay); the paper's w is -log_w.
        u: Bonus of the current token, the paper's u (`time_first`).
        k: Key.
        v: Value.
        state: The sums before the first token. Not modified.
        resets: Tokens before which the state is zero: the token sees nothing before itself.
        implementation: A name in `IMPLEMENTATIONS`, or "auto" for the fastest that can run.

    Returns:
        y in the dtype of `k`, and the state after the last token. Everything inside is float32,
        or float64 if `k` is. Gradients reach log_w, u, k, v, state.num and state.den.

    Raises:
        ValueError: If `implementation` is no name in `IMPLEMENTATIONS`, or a shape or dtype does
            not fit the others.
        ImplementationUnavailableError: If `implementation` cannot run these tensors.

    Source:
        Peng et al. 2023, arXiv:2305.13048, eq. 16 and appendix D, eqs 23-28;
        BlinkDL/RWKV-LM, RWKV-v4neo/cuda/wkv_cuda.cu.
    """
    _check(log_w, u, k, v, state, resets)
    args = (log_w, u, k, v, state, resets)
    return choose("wkv4", IMPLEMENTATIONS, implementation, *args).run(*args)


def _check(
    log_w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKV4State, resets: Tensor | None
) -> None:
    """Raise a ValueError unless shapes and dtypes fit together."""
    if k.ndim != 3:
        raise ValueError(f"`k` must have the shape [B, T, C], got {list(k.shape)}")
    B, T, C = k.shape
    expected = {"log_w": (log_w, [C]), "u": (u, [C]), "v": (v, [B, T, C])}
    for field, value in state._asdict().items():
        expected[f"state.{field}"] = (value, [B, C])
    if resets is not None:
        expected["resets"] = (resets, [B, T])
    for name, (tensor, shape) in expected.items():
        if list(tensor.shape) != shape:
            raise ValueError(
                f"`{name}` must have the shape {shape} to go with `k` of {list(k.shape)}, "
                f"got {list(tensor.shape)}"
            )
    sums = torch.float64 if k.dtype == torch.float64 else torch.float32
    for name, (tensor, _) in expected.items():
        dtype = {"v": k.dtype, "resets": torch.bool}.get(name, sums)
        if tensor.dtype != dtype:
            raise ValueError(
                f"`{name}` must be {dtype} to go with `k` of {k.dtype}, got {tensor.dtype}"
            )
