"""The definition of `wkv4`: the recurrence of the paper, token by token, in plain PyTorch.

Dimensions
    B  sequences in the batch      T  tokens per sequence      C  channels
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# The log scale of a sum that nothing has been added to. Keys of a model lie far above it,
# so exp(EMPTY - key) is exactly 0; and unlike minus infinity, EMPTY - EMPTY is 0 and not NaN.
EMPTY = -1e38


class WKV4State(NamedTuple):
    """The two sums of the WKV recurrence, sharing one logarithmic scale.

    With the paper's a_t and b_t, the numerator and the denominator over the tokens so far,

        a_t = exp(log_scale) num        b_t = exp(log_scale) den

    `log_scale` is a unit and not a quantity: another one, with `num` and `den` scaled to match, is
    the same state. Gradients flow through `num` and `den` and treat `log_scale` as a constant.
    Always float32, or float64 where the keys are. Source: the paper's appendix D.
    """

    num: Float[Tensor, "B C"]
    den: Float[Tensor, "B C"]
    log_scale: Float[Tensor, "B C"]

    @classmethod
    def zeros(
        cls,
        batch: int,
        channels: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> "WKV4State":
        """Return the state before the first token."""
        zeros = torch.zeros(batch, channels, dtype=dtype, device=device)
        return cls(num=zeros, den=zeros.clone(), log_scale=torch.full_like(zeros, EMPTY))


def wkv4_reference(
    log_w: Float[Tensor, " C"],
    u: Float[Tensor, " C"],
    k: Float[Tensor, "B T C"],
    v: Float[Tensor, "B T C"],
    state: WKV4State,
    resets: Bool[Tensor, "B T"] | None,
) -> tuple[Float[Tensor, "B T C"], WKV4State]:
    """Return y and the state after the last token; see `receptance.ops.wkv4.wkv4`."""
    # Gradients treat the scale as a constant. They are the true ones all the same, since y does
    # not depend on it: it multiplies both sums alike.
    num, den, scale = state.num, state.den, state.log_scale.detach()
    zero = WKV4State.zeros(*num.shape, dtype=num.dtype, device=num.device)
    outputs = []
    # Unbound, not indexed: the gradient of k[:, t] is as large as k, and T of them would make the
    # way back quadratic in T.
    for t, (k_t, v_t) in enumerate(zip(k.unbind(1), v.unbind(1), strict=True)):
        k_t, v_t = k_t.to(num.dtype), v_t.to(num.dtype)
        if resets is not None:
            reset = resets[:, t, None]
            pairs = zip(zero, (num, den, scale), strict=True)
            num, den, scale = (torch.where(reset, fresh, old) for fresh, old in pairs)

        # The output: all tokens before this one, and this one with its bonus u.
        q = torch.maximum(scale, u + k_t).detach()
        e_past, e_now = torch.exp(scale - q), torch.exp(u + k_t - q)
        outputs.append((e_past * num + e_now * v_t) / (e_past * den + e_now))

        # The sums: everything so far fades by w, this token is added.
        q = torch.maximum(scale + log_w, k_t).detach()
        e_past, e_now = torch.exp(scale + log_w - q), torch.exp(k_t - q)
        num, den, scale = e_past * num + e_now * v_t, e_past * den + e_now, q

    y = torch.stack(outputs, dim=1).to(k.dtype) if outputs else torch.empty_like(k)
    return y, WKV4State(num, den, scale)
