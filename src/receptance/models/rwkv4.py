"""RWKV-4 (Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", arXiv:2305.13048).

Dimensions
    B  sequences in the batch      C  channels (`n_embd`; the paper's D)
    T  tokens per sequence         L  layers (`n_layer`)
    V  vocabulary

Parameters keep the names and shapes of the authors' checkpoints, so that loading one is
`load_state_dict` and nothing else. Matrices may be of a lower precision, and then what enters them
is too, and leaves them (but float16); the stream, the norms, the token shift and WKV's sums are
float32, or float64 in a float64 model.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from receptance.errors import ConfigError
from receptance.models.fingerprint import fingerprint
from receptance.models.linear import LayerNorm, Linear
from receptance.models.low_rank import require_unchanged
from receptance.models.packed import PackedModel
from receptance.models.rwkv4_packed import pack_rwkv4
from receptance.models.state import State
from receptance.ops.gate import gate, gated_add
from receptance.ops.norm_shift_mix import norm_shift_mix
from receptance.ops.wkv4 import WKV4State, wkv4


@dataclass(frozen=True, kw_only=True)
class RWKV4Config:
    """The shape of an RWKV-4.

    Raises:
        ConfigError: If a size is not a positive integer, or `ln0` not a boolean.
    """

    architecture: ClassVar[str] = "rwkv4"

    n_layer: int
    n_embd: int
    vocab_size: int
    ln0: bool = True
    """Whether the first layer normalises the embedding. Published models do; False is for one whose
    embedding was normalised once for all, which some programs do to save the work."""

    def __post_init__(self) -> None:
        if not isinstance(self.ln0, bool):
            raise ConfigError(f"`ln0` must be true or false, got {self.ln0!r:.60}")
        for name in ("n_layer", "n_embd", "vocab_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"`{name}` must be a positive integer, got {value!r:.60}")

    @classmethod
    def preset(cls, name: str, *, vocab_size: int = 50277) -> "RWKV4Config":
        """Return the shape of a published model: a name in `PRESETS`, such as "169m".

        Raises:
            ConfigError: If there is no such preset.
        """
        if name not in PRESETS:
            raise ConfigError(f"a preset must be one of {list(PRESETS)}, got {name!r}")
        n_layer, n_embd = PRESETS[name]
        return cls(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size)

    def entries(self) -> dict[str, Any]:
        """Return the sizes by name, and what else is not as in the published models."""
        sizes = asdict(self)
        return sizes if not self.ln0 else {k: v for k, v in sizes.items() if k != "ln0"}

    @property
    def n_parameters(self) -> int:
        """2VC + 13C²L + C(11L + 4), the paper's formula, exact to the unit."""
        V, C, L = self.vocab_size, self.n_embd, self.n_layer
        return 2 * V * C + 13 * C * C * L + C * (11 * L + (4 if self.ln0 else 2))

    @property
    def flops_per_token(self) -> int:
        """2(VC + 13C²L) for a token forward; training costs three times that.

        Source: the values of the paper's table 2. (Its text says 2VC, which they are not.)
        """
        V, C, L = self.vocab_size, self.n_embd, self.n_layer
        return 2 * (V * C + 13 * C * C * L)


# The sizes of the paper's table 2: (L, C).
PRESETS = {
    "169m": (12, 768),
    "430m": (24, 1024),
    "1.5b": (24, 2048),
    "3b": (32, 2560),
    "7b": (32, 4096),
    "14b": (40, 5120),
}


@dataclass(frozen=True)
class RWKV4State(State):
    """The memory of RWKV-4: five vectors a layer, 5·L·C numbers a sequence, all in WKV's dtype."""

    architecture: ClassVar[str] = "rwkv4"
    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "time_mix_x": (-1e6, 1e6),
        "channel_mix_x": (-1e6, 1e6),
        "num": (-1e30, 1e30),
        "den": (0.0, 1e30),
        "log_scale": (-1.1e38, 1e6),  # the least is that of nothing, ops.wkv4.EMPTY
    }

    time_mix_x: Float[Tensor, "L B C"]
    """The last input of each time mix, for its token shift."""
    channel_mix_x: Float[Tensor, "L B C"]
    """The last input of each channel mix, for its token shift."""
    num: Float[Tensor, "L B C"]
    """The WKV numerator; this and the two below are `receptance.ops.wkv4.WKV4State`."""
    den: Float[Tensor, "L B C"]
    log_scale: Float[Tensor, "L B C"]


class TimeMix(nn.Module):
    """Mixes along time: every channel averages what it has seen (eqs 11-13, 16, 17)."""

    def __init__(self, config: RWKV4Config) -> None:
        super().__init__()
        C = config.n_embd
        self.time_decay = nn.Parameter(torch.empty(C))
        self.time_first = nn.Parameter(torch.empty(C))
        self.time_mix_k = nn.Parameter(torch.empty(1, 1, C))
        self.time_mix_v = nn.Parameter(torch.empty(1, 1, C))
        self.time_mix_r = nn.Parameter(torch.empty(1, 1, C))
        self.key = Linear(C, C)
        self.value = Linear(C, C)
        self.receptance = Linear(C, C)
        self.output = Linear(C, C)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        ln: nn.LayerNorm,
        x_last: Float[Tensor, "B C"],
        wkv_state: WKV4State,
        resets: Bool[Tensor, "B T"] | None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B C"], WKV4State]:
        """Return what is added to the stream x, the last ln(x) and the WKV state after it."""
        # μ n_t + (1 - μ) n_{t-1} for each μ, with n = ln(x)
        mixes = self.time_mix_k, self.time_mix_v, self.time_mix_r
        (x_k, x_v, x_r), x_last = norm_shift_mix(
            x, ln.weight, ln.bias, mixes, x_last, eps=ln.eps, resets=resets, dtype=self.key.dtype
        )
        k = self.key(x_k)
        v = self.value(x_v)
        r = self.receptance(x_r)

        log_w = -torch.exp(self.time_decay)  # the paper's w is exp(time_decay)
        wkv, wkv_state = wkv4(log_w, self.time_first, k, v, wkv_state, resets=resets)

        return self.output(gate(r, wkv)), x_last, wkv_state  # W_o (σ(r) ⊙ wkv)


class ChannelMix(nn.Module):
    """Mixes across channels: a squared ReLU between two matrices, gated (eqs 14, 15, 18)."""

    def __init__(self, config: RWKV4Config) -> None:
        super().__init__()
        C = config.n_embd
        self.time_mix_k = nn.Parameter(torch.empty(1, 1, C))
        self.time_mix_r = nn.Parameter(torch.empty(1, 1, C))
        self.key = Linear(C, 4 * C)
        self.receptance = Linear(C, C)
        self.value = Linear(4 * C, C)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        ln: nn.LayerNorm,
        x_last: Float[Tensor, "B C"],
        resets: Bool[Tensor, "B T"] | None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T C"], Float[Tensor, "B C"]]:
        """Return r and v, of which σ(r) ⊙ v is added to the stream x, and the last ln(x)."""
        mixes = self.time_mix_k, self.time_mix_r
        (x_k, x_r), x_last = norm_shift_mix(
            x, ln.weight, ln.bias, mixes, x_last, eps=ln.eps, resets=resets, dtype=self.key.dtype
        )
        k = self.key(x_k)
        r = self.receptance(x_r)

        return r, self.value.of_squared_relu(k), x_last  # W_v max(k, 0)²


class Block(nn.Module):
    """A layer: time mix, then channel mix, each on a normalised copy and added to the stream."""

    def __init__(self, config: RWKV4Config, layer: int, dropout: float) -> None:
        super().__init__()
        # Only the first layer normalises the embedding.
        self.ln0 = LayerNorm(config.n_embd) if layer == 0 and config.ln0 else None
        self.ln1 = LayerNorm(config.n_embd)
        self.ln2 = LayerNorm(config.n_embd)
        self.att = TimeMix(config)
        self.ffn = ChannelMix(config)
        self.dropout = dropout

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        time_mix_x: Float[Tensor, "B C"],
        channel_mix_x: Float[Tensor, "B C"],
        wkv_state: WKV4State,
        resets: Bool[Tensor, "B T"] | None,
    ) -> tuple[Float[Tensor, "B T C"], tuple[Tensor, ...]]:
        """Return the stream after this layer, and the layer's five state vectors."""
        dropout = self.dropout if self.training else 0.0
        if self.ln0 is not None:
            x = F.dropout(self.ln0(x), dropout)
        y, time_mix_x, wkv_state = self.att(x, self.ln1, time_mix_x, wkv_state, resets)
        x = gated_add(x, F.dropout(y, dropout))
        r, v, channel_mix_x = self.ffn(x, self.ln2, channel_mix_x, resets)
        x = gated_add(x, F.dropout(v, dropout), r)  # σ(r) ⊙ dropout(v) = dropout(σ(r) ⊙ v)
        return x, (time_mix_x, channel_mix_x, *wkv_state)


class RWKV4(nn.Module):
    """The paper's language model. One forward serves one token and a million.

    A new one holds no values: give it some by `init_weights()` or `load_state_dict`.

    Args:
        config: The shape.
        dropout: Share of numbers that training sets to 0 in what is added to the stream: the
            embedding, and what each sublayer adds. The rest is scaled up to make good for it.

    Raises:
        ValueError: If `dropout` does not lie in [0, 1).
    """

    def __init__(self, config: RWKV4Config, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got {dropout}")
        self.config = config
        # Of weights that were rounded to float16 when they were read: see `fingerprint`.
        self.source_digests: dict[str, bytes] = {}
        V, C, L = config.vocab_size, config.n_embd, config.n_layer
        self.emb = nn.Embedding(V, C, _weight=torch.empty(V, C))
        self.blocks = nn.ModuleList(Block(config, layer, dropout) for layer in range(L))
        self.ln_out = LayerNorm(C)
        self.head = Linear(C, V)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        state: RWKV4State | None = None,
        *,
        resets: Bool[Tensor, "B T"] | None = None,
        last_only: bool = False,
    ) -> tuple[Float[Tensor, "B T_out V"], RWKV4State]:
        """Return the logits of the token after each token, and the state after the last one.

        Args:
            tokens: At least one for each sequence.
            state: The memory of what came before; None is the zero state. Not modified.
            resets: Tokens before which the state is zero.
            last_only: Whether only the last token's logits are wanted; then T_out is 1.

        Returns:
            Logits in float32 (float64 in a float64 model), and the new state.
        """
        x, state = self.features(tokens, state, resets=resets)
        logits = self.head(x[:, -1:] if last_only else x)
        return logits.to(x.dtype), state

    def features(
        self,
        tokens: Int[Tensor, "B T"],
        state: RWKV4State | None = None,
        *,
        resets: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], RWKV4State]:
        """Return what `forward` gives to the head, and the state after the last token."""
        _check_tokens(tokens, resets)
        state = self.start_state(len(tokens)) if state is None else state
        self._check_state(state, len(tokens))

        x = self.emb(tokens).to(self.ln_out.weight.dtype)
        new = []
        for layer, block in enumerate(self.blocks):
            wkv_state = WKV4State(state.num[layer], state.den[layer], state.log_scale[layer])
            shifts = state.time_mix_x[layer], state.channel_mix_x[layer]
            x, vectors = block(x, *shifts, wkv_state, resets)
            new.append(vectors)
        return self.ln_out(x), RWKV4State(*(torch.stack(each) for each in zip(*new, strict=True)))

    def start_state(self, batch: int) -> RWKV4State:
        """Return what `state=None` means, for `batch` sequences: the zero state."""
        return self.zero_state(batch)

    def zero_state(self, batch: int) -> RWKV4State:
        """Return the memory of `batch` sequences that have seen nothing."""
        L, like = self.config.n_layer, self.ln_out.weight
        wkv = WKV4State.zeros(L * batch, len(like), dtype=like.dtype, device=like.device)
        num, den, log_scale = (each.unflatten(0, (L, batch)) for each in wkv)
        return RWKV4State(torch.zeros_like(num), torch.zeros_like(num), num, den, log_scale)

    def pack(self, *, skips_zeros: bool = False) -> PackedModel:
        """Return what decodes with these weights, which must not change from now on.

        Args:
            skips_zeros: Whether decoding need not read what meets a 0. For this the matrices after
                the squared ReLUs are laid by columns, in this model too: no result of it changes,
                but it cannot be trained any more.
        """
        return pack_rwkv4(self, skips_zeros=skips_zeros)

    def fingerprint(self) -> str:
        """Return a hash of the architecture and of all weights, rounded to bfloat16.

        Raises:
            ValueError: If the model has changes beside its weights.
        """
        require_unchanged(self, "to be told by their hash")
        return fingerprint(self.config, self.state_dict(), self.source_digests)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Set every parameter as the authors' code does before training.

        Each block adds nothing at first, since its output matrices are zero. (The list in the
        paper's appendix E exchanges zero and non-zero ones; its channel mix would never train.)

        Source: BlinkDL/RWKV-LM, RWKV-v4/src/model.py, RWKV_Init; the embedding as its README
        recommends, uniform in ±1e-4.
        """
        V, C, L = self.config.vocab_size, self.config.n_embd, self.config.n_layer
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            _init_block(block, layer, L)
        self.ln_out.reset_parameters()
        nn.init.orthogonal_(self.head.weight, gain=0.5 * math.sqrt(max(V / C, 1)))

    def _check_state(self, state: RWKV4State, batch: int) -> None:
        expected = [self.config.n_layer, batch, self.config.n_embd]
        found = list(state.num.shape)
        if found != expected:
            raise ValueError(
                f"`state` must be [L, B, C] = {expected} for this model and these tokens, got "
                f"{found}; was it made by another model, or for another number of sequences?"
            )


def _check_tokens(tokens: Tensor, resets: Tensor | None) -> None:
    if tokens.ndim != 2:
        raise ValueError(f"`tokens` must have the shape [B, T], got {list(tokens.shape)}")
    if tokens.shape[1] == 0:
        raise ValueError(f"`tokens` must hold at least one token, got {list(tokens.shape)}")
    if resets is not None and resets.shape != tokens.shape:
        raise ValueError(
            f"`resets` must have the shape of `tokens`, {list(tokens.shape)}, "
            f"got {list(resets.shape)}"
        )


def _init_block(block: Block, layer: int, n_layer: int) -> None:
    """Set the parameters of one layer; r0 rises from 0 to 1 with depth, r1 falls from 1."""
    att, ffn = block.att, block.ffn
    C = len(att.time_decay)
    r0 = layer / max(n_layer - 1, 1)
    r1 = 1 - layer / n_layer
    i = torch.arange(C, dtype=torch.float64, device=att.time_decay.device)
    depth = i / C

    att.time_decay.copy_(-5 + 8 * (i / max(C - 1, 1)) ** (0.7 + 1.3 * r0))
    att.time_first.copy_(math.log(0.3) + 0.5 * ((i + 1) % 3 - 1))
    att.time_mix_k.copy_(depth**r1)
    att.time_mix_v.copy_(depth**r1 + 0.3 * r0)
    att.time_mix_r.copy_(depth ** (0.5 * r1))
    ffn.time_mix_k.copy_(depth**r1)
    ffn.time_mix_r.copy_(depth**r1)

    for matrix in (att.key, att.receptance, att.output, ffn.value, ffn.receptance):
        nn.init.zeros_(matrix.weight)
    nn.init.orthogonal_(att.value.weight, gain=1.0)
    nn.init.orthogonal_(ffn.key.weight, gain=2.0)  # sqrt(rows / columns)
    for norm in block.children():
        if isinstance(norm, nn.LayerNorm):
            norm.reset_parameters()
