"""Prefill: a prompt is read, and the logits of its last token are wanted."""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.benchmark.ceilings import MatrixCeiling
from receptance.benchmark.clock import Timed
from receptance.inference import CHUNK_TOKENS
from receptance.models import RWKV4, RWKV4Config, State


@dataclass(frozen=True, kw_only=True)
class PrefillFigures:
    """How fast a prompt is read."""

    prompt_tokens: int
    tokens_per_s: float
    spread: float
    """Of the seconds: the longest round less the shortest, over the median."""
    flops_per_s: float
    share_of_matrix: float
    """Of the speed of the matrix products alone, in float32 for float32, else in bfloat16."""
    first_token_s: float
    """From a loaded model to its first token after the prompt: with all that it does only once."""


class Prefill:
    """A prompt of random tokens, to be read in rounds."""

    def __init__(self, model: RWKV4, n_tokens: int) -> None:
        """Read the prompt for the first time, and time that."""
        self._model = model
        generator = torch.Generator().manual_seed(0)
        self._tokens = torch.randint(model.config.vocab_size, (1, n_tokens), generator=generator)
        began = time.perf_counter()
        int(self._read().argmax())
        self.first_token_s = time.perf_counter() - began
        self.timed = Timed(self._read)

    def figures(self, matrix: MatrixCeiling) -> PrefillFigures:
        """Return what was measured, beside the matrix products alone, in turn with this."""
        n_tokens = self._tokens.shape[1]
        flops = prefill_flops(self._model.config, n_tokens)
        return PrefillFigures(
            prompt_tokens=n_tokens,
            tokens_per_s=n_tokens / self.timed.median_s,
            spread=self.timed.spread,
            flops_per_s=flops / self.timed.median_s,
            share_of_matrix=self.timed.times_shorter_than(matrix.timed) * flops / matrix.flops,
            first_token_s=self.first_token_s,
        )

    def _read(self) -> Float[Tensor, "1 V"]:
        return prefill(self._model, self._tokens)[0]


def prefill(
    model: RWKV4, tokens: Tensor, state: State | None = None
) -> tuple[Float[Tensor, "B V"], State | None]:
    """Return the logits after the last of `tokens` [B, T], read in chunks, and the state."""
    logits = None
    with torch.inference_mode():
        for chunk in tokens.split(CHUNK_TOKENS, dim=1):
            logits, state = model(chunk, state, last_only=True)
    assert logits is not None
    return logits[:, -1], state


def prefill_flops(config: RWKV4Config, n_tokens: int) -> int:
    """Return the operations of a prompt's matrix products, each chunk's head for one token."""
    head = 2 * config.vocab_size * config.n_embd
    n_chunks = -(-n_tokens // CHUNK_TOKENS)
    return (config.flops_per_token - head) * n_tokens + head * n_chunks
