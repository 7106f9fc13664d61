"""Batches of a split: which tokens the sample at place p has, found without the ones before."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8, UInt16, UInt32
from torch import Tensor

from receptance.data.authors_order import authors_context, order_prime
from receptance.data.order import order_key, permute
from receptance.data.store import Split
from receptance.errors import DataError

Order = Literal["permuted", "authors"]


class Batch(NamedTuple):
    """What a model is trained on in one step, or in a part of one."""

    tokens: Int64[Tensor, "B T"]
    """What the model reads."""
    targets: Int64[Tensor, "B T"]
    """What it should predict: at each place the token that follows."""
    resets: Bool[Tensor, "B T"]
    """Where the state is zero before the token: at each `end_of_text`, which opens a document."""
    counted: Bool[Tensor, "B T"] | None = None
    """Which targets the loss is over; None for all."""
    sources: Int64[Tensor, " B"] | None = None
    """Which source each row is of, by its number; None where there is but one store."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; what is `pinned` is copied while the caller goes on."""
        goes_on = device.type == "cuda"  # to the CPU, numbers would be read before they are there
        return self._each(lambda tensor: tensor.to(device, non_blocking=goes_on))

    def pinned(self) -> "Batch":
        """Return the batch in memory that a GPU reads by itself; there must be one."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        parts: list[Any] = [None if each is None else change(each) for each in self]
        return Batch(*parts)


class Sample(NamedTuple):
    """Where one row of a batch comes from."""

    epoch: int
    """How many times all samples had been seen before."""
    first_token: int
    """The place of its first token in the split."""


class Batches:
    """The endless sequence of samples of a split, and batches of any part of it.

    A sample has N = segments · ctx_len tokens, read in as many steps of ctx_len tokens as it has
    segments. The stream of tokens is read as a ring, its end going on at its beginning, and each
    epoch starts to cut it at a place o of its own, so that the borders between samples move. With
    n = ⌊(n_tokens - 1) / N⌋ samples an epoch, sample i of epoch e reads the N tokens from
    (o_e + i·N) mod n_tokens on, and predicts the N tokens from one further on. No token is read
    twice in an epoch; fewer than N + 1 tokens, others each time, are not read.

    Place p of an order without end holds in epoch ⌊p / n⌋ the sample that `permute` gives for
    p mod n. Nothing else decides, neither how many samples a step sees nor how many ranks share
    it, so a run resumes anywhere. A batch may take rows from two epochs or more.

    With the order "authors" it is that of RWKV-LM instead, the same for every seed and epoch: n is
    a prime, samples are cut at 0, and those that `authors_context` never gives are not read.
    """

    def __init__(
        self,
        split: Split,
        *,
        ctx_len: int,
        seed: int,
        end_of_text: int,
        vocab_size: int,
        segments: int = 1,
        order: Order = "permuted",
    ) -> None:
        """Check that the split has at least one sample.

        Args:
            split: Where the tokens are.
            ctx_len: How many tokens of a sample a batch has, T.
            seed: What the order depends on.
            end_of_text: The token that opens a document.
            vocab_size: Tokens are below it; others are a damaged file.
            segments: How many times `ctx_len` tokens a sample has.
            order: "permuted", or "authors" for that of RWKV-LM.

        Raises:
            DataError: If the split is too short.
            ValueError: If `ctx_len` or `segments` is not positive.
        """
        if ctx_len < 1 or segments < 1:
            raise ValueError(
                f"`ctx_len` and `segments` must be at least 1, got {ctx_len} and {segments}"
            )
        if split.n_tokens < segments * ctx_len + 1:
            size = f"ctx_len={ctx_len}" + (f" and segments={segments}" if segments > 1 else "")
            remedy = "a smaller ctx_len" + (" or fewer segments" if segments > 1 else "")
            raise DataError(
                f"{str(split.path)!r} must have at least {segments * ctx_len + 1} tokens for one "
                f"sample of {size}, but has {split.n_tokens}; use {remedy} or prepare more text"
            )
        self.split = split
        self.ctx_len = ctx_len
        self.segments = segments
        self.seed = seed
        self.end_of_text = end_of_text
        self.vocab_size = vocab_size
        self.order: Order = order
        n_samples = (split.n_tokens - 1) // self.sample_len
        if order == "authors":
            n_samples = order_prime(split.n_tokens, self.sample_len)
        self.n_samples = n_samples
        """How many samples an epoch has."""

    @property
    def sample_len(self) -> int:
        """How many tokens a sample has, over all its segments."""
        return self.segments * self.ctx_len

    @property
    def epoch_tokens(self) -> int:
        """How many tokens an epoch reads."""
        return self.n_samples * self.sample_len

    def samples(self, first_sample: int, n_rows: int) -> list[Sample]:
        """Return where consecutive samples come from.

        Args:
            first_sample: The place of the first one in the endless order, counted from 0.
            n_rows: How many.

        Raises:
            ValueError: If `first_sample` is negative or `n_rows` is not positive.
        """
        if first_sample < 0:
            raise ValueError(f"`first_sample` must be at least 0, got {first_sample}")
        if n_rows < 1:
            raise ValueError(f"`n_rows` must be at least 1, got {n_rows}")
        end = first_sample + n_rows
        rows: list[Sample] = []
        while first_sample < end:
            epoch, place = divmod(first_sample, self.n_samples)
            n_of_epoch = min(end - first_sample, self.n_samples - place)
            rows += self._epoch_samples(epoch, place, n_of_epoch)
            first_sample += n_of_epoch
        return rows

    def batch(self, first_sample: int, n_rows: int, segment: int = 0) -> Batch:
        """Return one segment of consecutive samples.

        Args:
            first_sample: The place of the first row's sample in the endless order.
            n_rows: How many rows, B.
            segment: Which `ctx_len` tokens of each sample, the first being 0.

        Returns:
            New tensors on the CPU, the caller's to change.

        Raises:
            DataError: If a token is not in the vocabulary, or the mask is not one.
            ValueError: If an argument is out of its range.
        """
        if not 0 <= segment < self.segments:
            raise ValueError(f"`segment` must lie in 0 to {self.segments - 1}, got {segment}")
        samples = self.samples(first_sample, n_rows)
        window = self._window(self.split.tokens, samples, segment)
        if int(window.max()) >= self.vocab_size:
            raise DataError(
                f"{str(self.split.path)!r} must hold tokens below {self.vocab_size}, but samples "
                f"{first_sample} to {first_sample + n_rows - 1} have {int(window.max())}; the file "
                "is damaged, which `receptance data inspect STORE --verify` confirms: prepare the "
                "store again"
            )
        window = torch.from_numpy(window)
        tokens, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
        return Batch(tokens, targets, tokens == self.end_of_text, self._counted(samples, segment))

    def _window(
        self,
        stream: UInt8[np.ndarray, " n"] | UInt16[np.ndarray, " n"] | UInt32[np.ndarray, " n"],
        samples: list[Sample],
        segment: int,
    ) -> Int64[np.ndarray, "B T_and_1"]:
        """Return a segment of some samples and the entry after it, of a stream read as a ring."""
        window = np.empty((len(samples), self.ctx_len + 1), np.int64)
        for row, sample in zip(window, samples, strict=True):
            begin = (sample.first_token + segment * self.ctx_len) % len(stream)
            # The part before the end of the stream, then the part after its beginning.
            before = stream[begin : begin + len(row)]
            row[: len(before)] = before
            row[len(before) :] = stream[: len(row) - len(before)]
        return window

    def _counted(self, samples: list[Sample], segment: int) -> Bool[Tensor, "B T"] | None:
        """Return which targets of a segment count; None where the split has no mask."""
        if self.split.mask is None:
            return None
        window = self._window(self.split.mask, samples, segment)
        if int(window.max()) > 1:
            raise DataError(
                f"{str(self.split.path.with_suffix('.mask'))!r} must hold zeros and ones, but has "
                f"{int(window.max())}; the file is damaged, which `receptance data inspect STORE "
                "--verify` confirms: prepare the store again"
            )
        return torch.from_numpy(window[:, 1:] == 1)

    def _epoch_samples(self, epoch: int, place: int, n_rows: int) -> list[Sample]:
        """Return the samples at some places of one epoch."""
        if self.order == "authors":
            contexts = [authors_context(place + row, self.n_samples) for row in range(n_rows)]
            return [Sample(epoch, context * self.sample_len) for context in contexts]
        places = np.arange(place, place + n_rows, dtype=np.int64)
        indices = permute(places, self.n_samples, _cached_key(self.seed, epoch))
        begin = _ring_begin(self.seed, epoch, self.split.n_tokens)
        first_tokens = (begin + indices * self.sample_len) % self.split.n_tokens
        return [Sample(epoch, first) for first in first_tokens.tolist()]


_cached_key = lru_cache(maxsize=8)(order_key)


def _ring_begin(seed: int, epoch: int, n_tokens: int) -> int:
    """Return where an epoch starts to cut the ring."""
    digest = hashlib.blake2b(f"{seed}:{epoch}".encode(), person=b"receptance ring")
    return int.from_bytes(digest.digest(), "little") % n_tokens
