"""Several sources as one endless sequence of samples, mixed in a fixed ratio.

Which source a sample comes from repeats with a short period, so the source of any place, and how
many samples of each source came before it, are found by a look into a table.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from receptance.data.batches import Batch, Batches
from receptance.errors import ConfigError

MAX_PERIOD = 10_000
"""After at most so many samples the order of the sources repeats."""


class MixedSample(NamedTuple):
    """Where one row of a batch comes from."""

    source: str
    """The name of its source."""
    place: int
    """Its place in the endless order of that source."""
    epoch: int
    """How many times all samples of that source had been seen before."""
    first_token: int
    """The place of its first token in that source's split."""


def source_shares(weights: Mapping[str, float]) -> list[int]:
    """Return how many samples of each source a period has: the smallest whole numbers in ratio.

    A weight is taken for the decimal it is written as: 0.7 is 7/10.

    Args:
        weights: Of each source by its name.

    Raises:
        ConfigError: If a weight is not positive, or a period would have more than `MAX_PERIOD`
            samples.
    """
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(
                f"the weight of the source {name!r} must be positive, got {weight}; leave the "
                "source out to read nothing of it"
            )
    exact = [Fraction(str(weight)) for weight in weights.values()]
    unit = Fraction(
        math.gcd(*(each.numerator for each in exact)),
        math.lcm(*(each.denominator for each in exact)),
    )
    shares = [int(each / unit) for each in exact]
    if sum(shares) > MAX_PERIOD:
        raise ConfigError(
            f"the weights of the sources must repeat after at most {MAX_PERIOD:,} samples, but "
            f"{list(weights.values())} repeat after {sum(shares):,}; round them to fewer digits"
        )
    return shares


def source_order(shares: Sequence[int]) -> Int64[np.ndarray, " period"]:
    """Return which source each place of a period is of.

    Sample j of source k, j from 0, falls into the places from ⌊j W / w_k⌋ to ⌈(j + 1) W / w_k⌉ - 1,
    with w_k the source's share and W the period, the sum of all. Each place takes, of the samples
    that may come, the one that must come first. So at any place the samples of each source are
    their share of the samples so far, to within less than one.

    Args:
        shares: Positive whole numbers.

    Source: earliest deadlines first, C. L. Liu and J. W. Layland, 1973; these deadlines are those
    of S. Baruah et al., "Proportionate progress", 1996.
    """
    period = sum(shares)
    counts = [0] * len(shares)
    order = np.empty(period, np.int64)
    for place in range(period):
        due = [
            (-(-(counts[k] + 1) * period // share), k)
            for k, share in enumerate(shares)
            if counts[k] * period < (place + 1) * share
        ]
        order[place] = chosen = min(due)[1]
        counts[chosen] += 1
    return order


def source_seed(seed: int, name: str) -> int:
    """Return the seed of the order within a source, which depends on no other source."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), person=b"receptance src", digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 1


class MixedBatches:
    """The endless sequence of samples of several sources, and batches of any part of it.

    Place p is of the source that `source_order` has at p mod W, and it is the sample of that source
    at the place that is the number of its samples before p. Nothing else decides, so a run resumes
    anywhere, as with `Batches`.
    """

    def __init__(self, sources: Mapping[str, Batches], weights: Mapping[str, float]) -> None:
        """Mix sources.

        Args:
            sources: The samples of each source by its name, all of the same lengths.
            weights: The share of each in the samples, relative to each other.

        Raises:
            ConfigError: If the weights cannot be mixed; see `source_shares`.
            ValueError: If the names differ, there is no source, or samples have other lengths.
        """
        if not sources or list(sources) != list(weights):
            raise ValueError(
                "`sources` and `weights` must have the same names, at least one, got "
                f"{list(sources)} and {list(weights)}"
            )
        lengths = {(each.ctx_len, each.segments) for each in sources.values()}
        if len(lengths) > 1:
            raise ValueError(f"all sources must have one `ctx_len` and `segments`, got {lengths}")
        ((self.ctx_len, self.segments),) = lengths
        self.names = tuple(sources)
        self.sources = tuple(sources.values())
        self.shares = source_shares(weights)
        self._order = source_order(self.shares)
        is_of = self._order[:, None] == np.arange(len(self.shares))
        self._before = is_of.cumsum(axis=0) - is_of
        """How many samples of each source come before each place of a period."""

    @property
    def period(self) -> int:
        """After how many samples the order of the sources repeats."""
        return len(self._order)

    @property
    def sample_len(self) -> int:
        """How many tokens a sample has, over all its segments."""
        return self.segments * self.ctx_len

    def count_before(self, place: int) -> list[int]:
        """Return how many samples of each source come before a place, counted from 0."""
        periods, rest = divmod(place, self.period)
        return (periods * np.array(self.shares) + self._before[rest]).tolist()

    def source_of(self, first_sample: int, n_rows: int) -> Int64[np.ndarray, " n"]:
        """Return which source, by its index, consecutive samples are of.

        Raises:
            ValueError: If `first_sample` is negative or `n_rows` is not positive.
        """
        if first_sample < 0:
            raise ValueError(f"`first_sample` must be at least 0, got {first_sample}")
        if n_rows < 1:
            raise ValueError(f"`n_rows` must be at least 1, got {n_rows}")
        return self._order[np.arange(first_sample, first_sample + n_rows) % self.period]

    def samples(self, first_sample: int, n_rows: int) -> list[MixedSample]:
        """Return where consecutive samples come from; see `Batches.samples`."""
        found: list[MixedSample | None] = [None] * n_rows
        for source, rows, first in self._parts(first_sample, n_rows):
            samples = self.sources[source].samples(first, len(rows))
            for place, (row, sample) in enumerate(zip(rows, samples, strict=True), start=first):
                found[row] = MixedSample(self.names[source], place, *sample)
        return [each for each in found if each is not None]

    def batch(self, first_sample: int, n_rows: int, segment: int = 0) -> Batch:
        """Return one segment of consecutive samples, and which source each is of.

        The arguments and errors are those of `Batches.batch`. Where one source has a mask, the
        tokens of a source without one all count.
        """
        tokens = torch.empty(n_rows, self.ctx_len, dtype=torch.int64)
        targets, resets = torch.empty_like(tokens), torch.empty_like(tokens, dtype=torch.bool)
        counted = None
        if any(each.split.mask is not None for each in self.sources):
            counted = torch.ones_like(resets)
        sources = torch.from_numpy(self.source_of(first_sample, n_rows))
        for source, rows, first in self._parts(first_sample, n_rows):
            part = self.sources[source].batch(first, len(rows), segment)
            tokens[rows], targets[rows], resets[rows] = part.tokens, part.targets, part.resets
            if counted is not None and part.counted is not None:
                counted[rows] = part.counted
        return Batch(tokens, targets, resets, counted, sources)

    def _parts(self, first_sample: int, n_rows: int) -> list[tuple[int, Tensor, int]]:
        """Return each source that is met, its rows, and the place of the first among its own."""
        sources = self.source_of(first_sample, n_rows)
        before = self.count_before(first_sample)
        return [
            (source, torch.from_numpy((sources == source).nonzero()[0]), before[source])
            for source in np.unique(sources).tolist()
        ]
