"""The blocks of a text that intervals are drawn from: successive bytes, whatever the tokenizer.

Two models that read the same text have the same blocks, also with tokenizers of their own, so that
the interval of their difference can be that of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from receptance.evaluation.bootstrap import Estimate, estimate, totals
from receptance.evaluation.documents import BLOCK_BYTES, Document
from receptance.evaluation.reading import Passage
from receptance.tokenizer import Tokenizer

MAX_BLOCKS = 1024
"""Of a longer text successive blocks are joined, so that a result is small and the draws quick."""


@dataclass(frozen=True, kw_only=True)
class BlockSums:
    """What was summed in each block of a text."""

    nats: Float64[Tensor, " blocks"]
    """The cost of the tokens that begin there."""
    tokens: Float64[Tensor, " blocks"]
    bytes: Float64[Tensor, " blocks"]
    words: Float64[Tensor, " blocks"]

    def figures(self) -> dict[str, Estimate]:
        """Return the figures of the whole text, by their names, with their intervals.

        Bits per byte and per token are nats over log 2 and over the number of these; perplexity
        is exp(nats / tokens), and word perplexity exp(nats / words).
        """
        columns = torch.stack([self.nats, self.tokens, self.bytes, self.words], dim=1)
        nats, tokens, n_bytes, words = totals(columns).unbind(1)
        bits = nats / torch.tensor(2.0, dtype=torch.float64).log()
        return {
            "bits_per_byte": estimate(bits / n_bytes),
            "bits_per_token": estimate(bits / tokens),
            "perplexity": estimate((nats / tokens).exp()),
            "word_perplexity": estimate((nats / words).exp()),
        }


class TextBlocks:
    """Which block a token of a document belongs to: the one where its first byte is.

    A document begins a block. What ends a document is in its last block.
    """

    def __init__(self, documents: Sequence[Document], tokenizer: Tokenizer) -> None:
        """Divide documents into blocks.

        Args:
            documents: What is read, all of which counts.
            tokenizer: That made their tokens.
        """
        parts = [_bytes_of_blocks(each.n_bytes) for each in documents]
        self._ends = [
            _token_ends(each, tokenizer, len(part))
            for each, part in zip(documents, parts, strict=True)
        ]
        self._begins = np.cumsum([0, *map(len, parts)])
        self._n_joined = max(1, -(-int(self._begins[-1]) // MAX_BLOCKS))
        self.bytes = self._joined(parts)
        words = [
            np.zeros(len(part)) if each.words is None else each.words
            for each, part in zip(documents, parts, strict=True)
        ]
        self.words = self._joined(words)

    def __len__(self) -> int:
        return len(self.bytes)

    def of(self, passage: Passage) -> Int64[Tensor, " n"]:
        """Return the blocks of the tokens of a passage that count, in their order."""
        found = []
        rows = zip(passage.documents, passage.places, passage.is_counted, strict=True)
        for index, places, is_counted in rows:
            own = np.searchsorted(self._ends[index], places[is_counted].numpy(), side="right")
            found.append((self._begins[index] + own) // self._n_joined)
        return torch.from_numpy(np.concatenate(found).astype(np.int64))

    def _joined(self, parts: Sequence[np.ndarray]) -> Float64[Tensor, " blocks"]:
        numbers = np.concatenate(parts).astype(np.float64)
        firsts = np.arange(0, len(numbers), self._n_joined)
        return torch.from_numpy(np.add.reduceat(numbers, firsts))


def _bytes_of_blocks(n_bytes: int) -> Int64[np.ndarray, " blocks"]:
    ends = np.arange(BLOCK_BYTES, n_bytes + BLOCK_BYTES, BLOCK_BYTES, dtype=np.int64)
    ends = np.minimum(ends if len(ends) else np.zeros(1, np.int64), n_bytes)
    return np.diff(ends, prepend=0)


def _token_ends(
    document: Document, tokenizer: Tokenizer, n_blocks: int
) -> Int64[np.ndarray, " blocks"]:
    """Return for each block of a document the first token that is in a later one."""
    known, which = np.unique(document.tokens, return_inverse=True)
    sizes = np.array([len(tokenizer.token_bytes(token)) for token in known.tolist()], np.int64)
    widths = sizes[which]
    begins = np.cumsum(widths) - widths
    # What has no bytes at the very end, or is longer than its text where a tokenizer normalises,
    # belongs to the last block.
    blocks = np.minimum(begins // BLOCK_BYTES, n_blocks - 1)
    return np.searchsorted(blocks, np.arange(n_blocks), side="right").astype(np.int64)
