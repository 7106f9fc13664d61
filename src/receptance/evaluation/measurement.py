"""What a text costs, where in its documents, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from receptance.evaluation.blocks import BlockSums, TextBlocks
from receptance.evaluation.bootstrap import Estimate, estimate, totals
from receptance.evaluation.documents import Document
from receptance.evaluation.reading import Reader, passages, windows
from receptance.models import RWKV4, State
from receptance.tokenizer import Tokenizer


class Bin(NamedTuple):
    """Tokens at like places of their documents."""

    first: int
    """The first of these places; that of a document's first token is 1."""
    last: int
    tokens: int
    """How many there are, in all documents."""
    nats: Estimate
    """The cost of one, the mean."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What documents cost.

    Attributes:
        blocks: What was summed in each block of them.
        bin_nats: The cost of the tokens of each block, by the bin of their places.
        bin_tokens: How many these are.
    """

    blocks: BlockSums
    bin_nats: Float64[Tensor, "blocks bins"]
    bin_tokens: Float64[Tensor, "blocks bins"]

    def by_position(self) -> list[Bin]:
        """Return the cost in bins from each power of two to the next, as far as documents go."""
        columns = zip(self.bin_nats.unbind(1), self.bin_tokens.unbind(1), strict=True)
        return [_bin(k, nats, tokens) for k, (nats, tokens) in enumerate(columns)]


def measure(
    model: RWKV4,
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    window: int | None = None,
    stride: int | None = None,
    start: State | None = None,
    batch_size: int = 16,
    chunk: int = 512,
) -> Measurement:
    """Return what documents cost; the sums are those of `score_documents`.

    Besides the documents some 100 bytes for each are held in memory, and 32 for each window.

    Args:
        model: The model; its weights and all random states are left alone.
        documents: What is read, all of which counts.
        tokenizer: That made their tokens.
        window: How many tokens a window has, at each of which the state begins anew, as texts are
            read for Transformers; None reads each document whole, the state carried.
        stride: How many tokens after the one before it a window begins; None for half of it.
        start: The state of one sequence with which each document, or window, begins; None is the
            model's own start.
        batch_size: How many documents, or windows, are read side by side.
        chunk: How many tokens of each are read at once.

    Raises:
        ValueError: If a stride is given without a window, or is not from 1 to it; or there is no
            document, or one has a mask.
    """
    if window is None and stride is not None:
        raise ValueError(f"`stride` must be given with `window`, got {stride} alone")
    spans = None
    if window is not None:
        spans = windows(documents, window, default_stride(window) if stride is None else stride)
    reader, blocks = Reader(model, start), TextBlocks(documents, tokenizer)
    n_bins = max(len(each.tokens) for each in documents).bit_length()
    nats = torch.zeros(len(blocks) * n_bins, dtype=torch.float64)
    tokens = torch.zeros_like(nats)
    with torch.no_grad():
        for passage in passages(
            documents,
            end_of_text=tokenizer.end_of_text,
            batch_size=batch_size,
            chunk=chunk,
            spans=spans,
        ):
            costs = reader.nats(passage)
            index = blocks.of(passage) * n_bins + _bins(passage.places[passage.is_counted])
            nats.index_add_(0, index, costs)
            tokens.index_add_(0, index, torch.ones_like(costs))
    nats, tokens = nats.view(-1, n_bins), tokens.view(-1, n_bins)
    sums = BlockSums(nats=nats.sum(1), tokens=tokens.sum(1), bytes=blocks.bytes, words=blocks.words)
    return Measurement(blocks=sums, bin_nats=nats, bin_tokens=tokens)


def default_stride(window: int) -> int:
    """Return half of a window, at least one token."""
    return max(1, window // 2)


def _bins(places: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return k for the places from 2^k to 2^(k + 1) - 1, counted from 1."""
    return torch.frexp((places + 1).double()).exponent.long() - 1


def _bin(k: int, nats: Float64[Tensor, " blocks"], tokens: Float64[Tensor, " blocks"]) -> Bin:
    # A block without such tokens tells nothing of them, and a draw of such blocks alone is no mean.
    has_some = tokens > 0
    sums, counts = totals(torch.stack([nats[has_some], tokens[has_some]], dim=1)).unbind(1)
    return Bin(2**k, 2 ** (k + 1) - 1, int(counts[0]), estimate(sums / counts))
