"""Batches of a split: which tokens step N sees, found without seeing the steps before."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from receptance.data.order import order_key, permute
from receptance.data.store import Split
from receptance.errors import DataError


class Batch(NamedTuple):
    """What a model is trained on in one step."""

    tokens: Int64[Tensor, "B T"]
    """What the model reads."""
    targets: Int64[Tensor, "B T"]
    """What it should predict: at each place the token that follows."""
    resets: Bool[Tensor, "B T"]
    """Where the state is zero before the token: at each `end_of_text`, which opens a document."""


class Sample(NamedTuple):
    """Where one row of a batch comes from."""

    epoch: int
    """How many times all samples had been seen before."""
    first_token: int
    """The place of its first token in the split."""


class Batches:
    """The endless sequence of batches of a split.

    The stream of tokens is read as a ring, its end going on at its beginning, and each epoch
    starts to cut it at a place o of its own, so that the borders between samples move. With
    n = ⌊(n_tokens - 1) / ctx_len⌋ samples an epoch, sample i of epoch e reads the ctx_len tokens
    from (o_e + i·ctx_len) mod n_tokens on, and predicts the ctx_len tokens from one further on.
    No token is read twice in an epoch; fewer than ctx_len + 1 tokens, others each time, are not
    read.

    Row b of step s is at place p = s·batch_size + b of an order without end: epoch ⌊p / n⌋, and
    in it the sample that `permute` gives for p mod n. Nothing else decides, so a run resumes
    anywhere. A batch may take rows from two epochs or more.
    """

    def __init__(
        self,
        split: Split,
        *,
        ctx_len: int,
        batch_size: int,
        seed: int,
        end_of_text: int,
        vocab_size: int,
    ) -> None:
        """Check that the split has at least one sample.

        Args:
            split: Where the tokens are.
            ctx_len: How many tokens a sample has, T.
            batch_size: How many samples a step sees, B.
            seed: What the order depends on.
            end_of_text: The token that opens a document.
            vocab_size: Tokens are below it; others are a damaged file.

        Raises:
            DataError: If the split is too short.
            ValueError: If `ctx_len` or `batch_size` is not positive.
        """
        if ctx_len < 1 or batch_size < 1:
            raise ValueError(
                f"`ctx_len` and `batch_size` must be at least 1, got {ctx_len} and {batch_size}"
            )
        if split.n_tokens < ctx_len + 1:
            raise DataError(
                f"{str(split.path)!r} must have at least {ctx_len + 1} tokens for one sample of "
                f"ctx_len={ctx_len}, but has {split.n_tokens}; use a smaller ctx_len or prepare "
                "more text"
            )
        self.split = split
        self.ctx_len = ctx_len
        self.batch_size = batch_size
        self.seed = seed
        self.end_of_text = end_of_text
        self.vocab_size = vocab_size

    @property
    def n_samples(self) -> int:
        """How many samples an epoch has."""
        return (self.split.n_tokens - 1) // self.ctx_len

    @property
    def steps_per_epoch(self) -> int:
        """After how many steps every sample was seen at least once."""
        return -(-self.n_samples // self.batch_size)

    def samples(self, step: int) -> list[Sample]:
        """Return where the rows of a step's batch come from.

        Args:
            step: The number of the step, the first being 0.

        Raises:
            ValueError: If `step` is negative.
        """
        if step < 0:
            raise ValueError(f"`step` must be at least 0, got {step}")
        first = step * self.batch_size
        end = first + self.batch_size
        rows: list[Sample] = []
        while first < end:
            epoch, place = divmod(first, self.n_samples)
            n_rows = min(end - first, self.n_samples - place)
            rows += self._epoch_samples(epoch, place, n_rows)
            first += n_rows
        return rows

    def batch(self, step: int) -> Batch:
        """Return the batch of a step.

        Args:
            step: The number of the step, the first being 0.

        Returns:
            New tensors on the CPU, the caller's to change.

        Raises:
            DataError: If a token is not in the vocabulary.
            ValueError: If `step` is negative.
        """
        samples = self.samples(step)
        window = np.empty((len(samples), self.ctx_len + 1), np.int64)
        for row, sample in zip(window, samples, strict=True):
            # The part before the end of the stream, then the part after its beginning.
            before = self.split.tokens[sample.first_token : sample.first_token + len(row)]
            row[: len(before)] = before
            row[len(before) :] = self.split.tokens[: len(row) - len(before)]
        if int(window.max()) >= self.vocab_size:
            raise DataError(
                f"{str(self.split.path)!r} must hold tokens below {self.vocab_size}, but step "
                f"{step} reads {int(window.max())}; the file is damaged, which `receptance data "
                "inspect STORE --verify` confirms: prepare the store again"
            )
        window = torch.from_numpy(window)
        tokens, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
        return Batch(tokens, targets, resets=tokens == self.end_of_text)

    def _epoch_samples(self, epoch: int, place: int, n_rows: int) -> list[Sample]:
        """Return the samples at some places of one epoch."""
        places = np.arange(place, place + n_rows, dtype=np.int64)
        indices = permute(places, self.n_samples, _cached_key(self.seed, epoch))
        begin = _ring_begin(self.seed, epoch, self.split.n_tokens)
        first_tokens = (begin + indices * self.ctx_len) % self.split.n_tokens
        return [Sample(epoch, first) for first in first_tokens.tolist()]


_cached_key = lru_cache(maxsize=8)(order_key)


def _ring_begin(seed: int, epoch: int, n_tokens: int) -> int:
    """Return where an epoch starts to cut the ring."""
    digest = hashlib.blake2b(f"{seed}:{epoch}".encode(), person=b"receptance ring")
    return int.from_bytes(digest.digest(), "little") % n_tokens
