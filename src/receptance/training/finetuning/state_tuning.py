"""State tuning: a model whose weights are frozen, and whose initial state is trained.

Only a recurrent network can do this: what a prompt would leave in the state is learnt instead, at
5·L·C numbers, and is read for nothing.
"""

import torch
from torch import nn

from receptance.models import RWKV4, RWKV4Config, RWKV4State
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import replace_matrices

WEIGHT_AT_FIRST = -4.0
"""The log weight that training begins with where there is no initial state: little beside what a
token adds, so that the model begins nearly as it is, and enough for a gradient to reach `value`."""


class InitialState(nn.Module):
    """The state that every sequence begins with, in numbers any of which make a valid one.

    The two shifted inputs are what they are. WKV's sums a and b are those of one token that was
    seen before all others, with the value v and the log weight s, for each layer and channel:

        a = exp(s) v        b = exp(s)        so that a / b = v

    With s as the unit (`WKV4State.log_scale`, a constant for gradients) that is num = v, den = 1,
    log_scale = s; nothing overflows, and b is above 0 whatever s becomes. The gradient of s comes
    through both sums, which are exp(s - unit) times that.
    """

    def __init__(self, config: RWKV4Config) -> None:
        """Make room; `set_` or `load_state_dict` gives the numbers.

        Args:
            config: The shape of the model.
        """
        super().__init__()
        L, C = config.n_layer, config.n_embd
        self.time_mix_x = nn.Parameter(torch.empty(L, 1, C))
        self.channel_mix_x = nn.Parameter(torch.empty(L, 1, C))
        self.value = nn.Parameter(torch.empty(L, 1, C))
        self.log_weight = nn.Parameter(torch.empty(L, 1, C))

    def forward(self, batch: int) -> RWKV4State:
        """Return the state of so many sequences that have just begun."""
        unit = self.log_weight.detach()
        den = torch.exp(self.log_weight - unit)
        vectors = (self.time_mix_x, self.channel_mix_x, den * self.value, den, unit)
        return RWKV4State(*(each.expand(-1, batch, -1).contiguous() for each in vectors))

    @torch.no_grad()
    def set_(self, state: RWKV4State) -> None:
        """Take the numbers of a state of one sequence.

        Where nothing was seen, b = 0 has no log weight, and it becomes `WEIGHT_AT_FIRST`.
        """
        seen = state.den > 0
        den = torch.where(seen, state.den, torch.ones_like(state.den))
        self.time_mix_x.copy_(state.time_mix_x)
        self.channel_mix_x.copy_(state.channel_mix_x)
        self.value.copy_(torch.where(seen, state.num / den, torch.zeros_like(den)))
        first = torch.full_like(den, WEIGHT_AT_FIRST)
        self.log_weight.copy_(torch.where(seen, den.log() + state.log_scale, first))


class StateTunedRWKV4(RWKV4):
    """An RWKV-4 that begins with a state of its own; only that takes gradients.

    Args:
        config: The shape.
        dropout: As for `RWKV4`.
        quantization: The format of the matrices; None if they are floating-point numbers.
    """

    def __init__(
        self,
        config: RWKV4Config,
        dropout: float = 0.0,
        quantization: QuantizedFormat | None = None,
    ) -> None:
        super().__init__(config, dropout)
        if quantization is not None:
            replace_matrices(self, quantization)
        self.requires_grad_(False)
        self.initial_state = InitialState(config)

    def start_state(self, batch: int) -> RWKV4State:
        """Return the initial state for so many sequences."""
        return self.initial_state(batch)
