"""The blocks of a text that intervals are drawn from: successive bytes, whatever the tokenizer.

Two models that read the same text have the same blocks, also with tokenizers of their own, so that
the interval of their difference can be that of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, Integer
from torch import Tensor

from receptance.evaluation.bootstrap import Estimate, estimate, totals
from receptance.evaluation.documents import BLOCK_BYTES, Document, n_blocks
from receptance.evaluation.reading import Passage
from receptance.tokenizer import Tokenizer

MAX_BLOCKS = 1024
"""Of a longer text successive blocks are joined, so that a result is small and the draws quick."""
TOKENS_AT_ONCE = 1 << 18
"""Of a long document, so that memory is bounded while they are counted."""


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

        Raises:
            ValueError: If there is no document, or one has a mask.
        """
        if not documents:
            message = "`documents` must hold at least one to be measured, got none"
            raise ValueError(message)
        n_masked = sum(each.mask is not None for each in documents)
        if n_masked:
            raise ValueError(f"`documents` must count all their tokens, but {n_masked} have masks")
        n_bytes = np.fromiter((each.n_bytes for each in documents), np.int64, len(documents))
        counts = n_blocks(n_bytes)
        self._begins = np.concatenate([[0], np.cumsum(counts)])
        begins, ends = self._begins[:-1], self._begins[1:]
        self._token_ends = np.zeros(int(ends[-1]), dtype=np.int64)
        self._n_joined = max(1, -(-len(self._token_ends) // MAX_BLOCKS))
        sizes = np.full(len(self._token_ends), BLOCK_BYTES)
        sizes[ends - 1] = n_bytes - BLOCK_BYTES * (counts - 1)
        self.bytes = self._joined(sizes)
        words = np.zeros(len(self._token_ends), dtype=np.int64)
        widths = np.array([len(tokenizer.token_bytes(it)) for it in range(tokenizer.vocab_size)])
        for each, begin, end in zip(documents, begins, ends, strict=True):
            words[begin:end] = 0 if each.words is None else each.words
            _find_token_ends(each.tokens, widths, self._token_ends[begin:end])
        self.words = self._joined(words)

    def __len__(self) -> int:
        return len(self.bytes)

    def of(self, passage: Passage) -> Int64[Tensor, " n"]:
        """Return the blocks of the tokens of a passage that count, in their order."""
        found = []
        rows = zip(passage.documents, passage.places, passage.is_counted, strict=True)
        for index, places, is_counted in rows:
            begin = self._begins[index]
            token_ends = self._token_ends[begin : self._begins[index + 1]]
            own = np.searchsorted(token_ends, places[is_counted].numpy(), side="right")
            found.append((begin + own) // self._n_joined)
        return torch.from_numpy(np.concatenate(found).astype(np.int64))

    def _joined(self, numbers: Int64[np.ndarray, " all"]) -> Float64[Tensor, " blocks"]:
        firsts = np.arange(0, len(numbers), self._n_joined)
        return torch.from_numpy(np.add.reduceat(numbers, firsts).astype(np.float64))


def _find_token_ends(
    tokens: Integer[np.ndarray, " n"],
    widths: Int64[np.ndarray, " vocab"],
    ends: Int64[np.ndarray, " blocks"],
) -> None:
    """Write into `ends` for each block of a document the first token that is in a later one."""
    begin = 0
    for first in range(0, len(tokens), TOKENS_AT_ONCE):
        sizes = widths[tokens[first : first + TOKENS_AT_ONCE]]
        begins = begin + np.cumsum(sizes) - sizes
        begin = int(begins[-1] + sizes[-1])
        # What has no bytes at the very end, or is longer than its text where a tokenizer
        # normalises, belongs to the last block.
        blocks, counts = np.unique(
            np.minimum(begins // BLOCK_BYTES, len(ends) - 1), return_counts=True
        )
        ends[blocks] += counts
    np.cumsum(ends, out=ends)
