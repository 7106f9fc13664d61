"""The 95 % interval of a figure, by a block bootstrap.

Tokens that are near each other are alike, so what is drawn, with replacement, is blocks of
successive bytes of a document. Each of `N_RESAMPLES` draws of as many blocks as there are gives
one value of a figure; the interval is from the 2.5th to the 97.5th percentile of these. What is
paired, such as two models on the same text, is a row of numbers a block, so that all have the same
draws.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

MIN_BLOCKS = 10
"""Below as many, the spread of the draws says little of the spread of texts."""
N_RESAMPLES = 1000
SEED = 0


class Estimate(NamedTuple):
    """A figure and its 95 % interval; without ends where the text is too short for one."""

    value: float
    low: float | None
    high: float | None


def totals(columns: Float64[Tensor, "blocks k"]) -> Float64[Tensor, "rows k"]:
    """Return the sums over all blocks, and below them those over the blocks of each draw.

    Args:
        columns: What was summed in each block. Of fewer than `MIN_BLOCKS` there are no draws.
    """
    total = columns.sum(0, keepdim=True)
    return torch.cat([total, _resampled(columns)]) if len(columns) >= MIN_BLOCKS else total


def estimate(figure: Float64[Tensor, " rows"]) -> Estimate:
    """Return a figure with its interval.

    Args:
        figure: Its values by the rows of `totals`.
    """
    value, *draws = figure.tolist()
    if not draws:
        return Estimate(value, None, None)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.tensor(draws, dtype=torch.float64).quantile(ends).tolist()
    return Estimate(value, low, high)


def _resampled(columns: Float64[Tensor, "blocks k"]) -> Float64[Tensor, "draws k"]:
    """Return the sums over blocks drawn with replacement, the same for every column."""
    generator = torch.Generator().manual_seed(SEED)
    n_blocks = len(columns)
    drawn = [
        columns[torch.randint(n_blocks, (n_blocks,), generator=generator)].sum(0)
        for _ in range(N_RESAMPLES)
    ]
    return torch.stack(drawn)
