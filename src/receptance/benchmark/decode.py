"""Decoding: one token at a time to each of several sequences."""

from dataclasses import dataclass

import torch

from receptance.benchmark.ceilings import ReadCeiling
from receptance.benchmark.clock import Timed
from receptance.models import RWKV4, PackedModel, RWKV4Config

BYTES_PER_PARAMETER = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0625, "int4": 0.5625}
"""What a token is held to read of each weight, whatever a model holds: of the quantized formats the
levels, and a scale of 16 bits for 32 of them."""
WARM_UP_TOKENS = 2


@dataclass(frozen=True, kw_only=True)
class DecodeFigures:
    """How fast a number of sequences is decoded side by side."""

    batch_size: int
    tokens_per_s: float
    """Of all sequences together."""
    spread: float
    """Of the seconds: the longest round less the shortest, over the median."""
    share_of_read: float
    """The bytes that a step must read, over what the machine reads in the same time."""
    times_smallest_batch: float
    """Tokens a second over those of the first batch size."""


class Decode:
    """Steps of one batch size, to be timed."""

    def __init__(self, model: RWKV4, packed: PackedModel, batch_size: int, n_tokens: int) -> None:
        """Make a pool of states and the tokens, and take two steps.

        Args:
            model: Gives the states.
            packed: The same model, that takes the steps.
            batch_size: How many sequences there are.
            n_tokens: How many tokens each is fed in a round; random ones, so that what is timed
                does not depend on what a model says.
        """
        self.batch_size, self.n_tokens = batch_size, n_tokens
        generator = torch.Generator().manual_seed(0)
        vocab_size = model.config.vocab_size
        self._tokens = torch.randint(vocab_size, (n_tokens, batch_size), generator=generator)
        self._packed, self._pool = packed, model.zero_state(batch_size)
        self._slots = torch.arange(batch_size)
        self._steps(WARM_UP_TOKENS)
        self.timed = Timed(lambda: self._steps(n_tokens))

    @property
    def tokens_per_s(self) -> float:
        """Of all sequences together, the median."""
        return self.batch_size * self.n_tokens / self.timed.median_s

    def figures(
        self, bytes_per_step: float, read: ReadCeiling, smallest: "Decode"
    ) -> DecodeFigures:
        """Return what was measured.

        Args:
            bytes_per_step: What a step must read.
            read: The ceiling, measured in turn with this.
            smallest: The same of the first batch size.
        """
        n_bytes = bytes_per_step * self.n_tokens
        n_tokens = self.batch_size * self.n_tokens
        rivals = smallest.batch_size * smallest.n_tokens
        return DecodeFigures(
            batch_size=self.batch_size,
            tokens_per_s=self.tokens_per_s,
            spread=self.timed.spread,
            share_of_read=self.timed.times_shorter_than(read.timed) * n_bytes / read.n_bytes,
            times_smallest_batch=self.timed.times_shorter_than(smallest.timed) * n_tokens / rivals,
        )

    def _steps(self, n_tokens: int) -> None:
        with torch.inference_mode():
            for row in self._tokens[:n_tokens]:
                self._packed.step(row, self._pool, self._slots)


def bytes_per_token(config: RWKV4Config, format: str) -> float:
    """Return what one step must read: all weights but the embedding, of which it reads a row."""
    n_read = config.n_parameters - config.vocab_size * config.n_embd
    return n_read * BYTES_PER_PARAMETER[format]
