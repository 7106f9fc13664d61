"""How far other forms of a model, such as quantized ones, are from the full one on a text.

Of each token n, with p the distribution that the full model predicts and q that of another form,

    nats of each form     -log p_n, -log q_n
    KL                    Σ_v p(v) (log p(v) - log q(v))
    agreement             1 where the same token is the likeliest under both, else 0

The 95 % intervals are those of a paired block bootstrap (`bootstrap.py`): the same blocks are drawn
for all forms. A block's bytes are taken to be its tokens times the bytes of a token in the whole
text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from receptance.evaluation.bootstrap import Estimate, estimate, totals
from receptance.evaluation.documents import Document
from receptance.evaluation.perplexity import Score
from receptance.evaluation.reading import ROWS_OF_LOGITS, Passage, Reader, passages
from receptance.models import RWKV4

BLOCK_TOKENS = 256
"""Successive tokens that are drawn together; far more than one token tells of the next ones."""


class Distance(NamedTuple):
    """One form of a model beside the full one."""

    bits_per_byte: Estimate
    difference_percent: Estimate
    """Of its bits per byte to those of the full model."""
    kl_nats: Estimate
    """KL(full || this) of a token, the mean."""
    top_1_agreement: Estimate
    """The share of tokens at which the likeliest token is that of the full model."""


class Comparison(NamedTuple):
    """The full model's score, and how far each other form is from it."""

    full: Score
    distances: dict[str, Distance]


def compare(
    full: RWKV4,
    variants: Mapping[str, RWKV4],
    documents: Sequence[Document],
    *,
    end_of_text: int,
    batch_size: int = 16,
    chunk: int = 256,
) -> Comparison:
    """Return how far `variants` are from `full` on documents that all of them read side by side.

    The documents are read as by `score_documents`; of no more than `ROWS_OF_LOGITS` tokens are
    logits in memory at any time. Probabilities are float64.

    Args:
        full: What the others are compared with.
        variants: Models of the same vocabulary, by name.
        documents: What is read.
        end_of_text: The token that separates documents.
        batch_size: How many documents are read side by side.
        chunk: How many tokens of each are read at once.
    """
    lengths = [len(each.tokens) for each in documents]
    n_bytes = sum(each.n_bytes for each in documents)
    blocks = _Blocks(lengths)
    counts = torch.zeros(len(blocks), dtype=torch.float64)
    full_nats = torch.zeros_like(counts)
    sums = {name: torch.zeros(len(blocks), 3, dtype=torch.float64) for name in variants}
    reader, readers = Reader(full), {name: Reader(model) for name, model in variants.items()}
    with torch.no_grad():
        for passage in passages(
            documents, end_of_text=end_of_text, batch_size=batch_size, chunk=chunk
        ):
            index = blocks.of(passage)
            nats, figures = _figures(reader, readers, passage)
            counts.index_add_(0, index, torch.ones_like(nats))
            full_nats.index_add_(0, index, nats)
            for name, each in figures.items():
                sums[name].index_add_(0, index, each)
    score = Score(
        nats=float(full_nats.sum()),
        n_tokens=sum(each.n_counted for each in documents),
        n_bytes=n_bytes,
    )
    tokens_per_byte = score.n_tokens / n_bytes
    return Comparison(
        score,
        {name: _distance(counts, full_nats, each, tokens_per_byte) for name, each in sums.items()},
    )


class _Blocks:
    """Which block a token of a document belongs to."""

    def __init__(self, lengths: Sequence[int]) -> None:
        counts = torch.tensor([math.ceil(length / BLOCK_TOKENS) for length in lengths])
        self._ends = counts.cumsum(0)
        self._begins = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1])

    def of(self, passage: Passage) -> Int64[Tensor, " n"]:
        """Return the blocks of the tokens of a passage, in their order."""
        begins = self._begins[torch.tensor(passage.documents)]
        return (begins[:, None] + passage.places // BLOCK_TOKENS)[passage.is_counted]


def _figures(
    reader: Reader, readers: Mapping[str, Reader], passage: Passage
) -> tuple[Float64[Tensor, " n"], dict[str, Float64[Tensor, "n 3"]]]:
    """Return the full model's nats of each token; of the others nats, KL and agreement."""
    features = reader.features(passage)
    others = {name: each.features(passage) for name, each in readers.items()}
    targets = passage.targets[passage.is_counted][:, None].to(reader.device)
    nats: list[Tensor] = []
    figures: dict[str, list[Tensor]] = {name: [] for name in readers}
    for begin in range(0, len(targets), ROWS_OF_LOGITS):
        rows = slice(begin, begin + ROWS_OF_LOGITS)
        log_p = reader.logits(features[rows]).double().log_softmax(-1)
        nats.append(-log_p.gather(1, targets[rows])[:, 0])
        p, likeliest = log_p.exp(), log_p.argmax(-1)
        for name, each in readers.items():
            log_q = each.logits(others[name][rows]).double().log_softmax(-1)
            kl = (p * (log_p - log_q)).sum(-1)
            is_same = (log_q.argmax(-1) == likeliest).double()
            figures[name].append(
                torch.stack([-log_q.gather(1, targets[rows])[:, 0], kl, is_same], dim=1)
            )
    return torch.cat(nats).cpu(), {name: torch.cat(each).cpu() for name, each in figures.items()}


def _distance(
    counts: Float64[Tensor, " blocks"],
    full_nats: Float64[Tensor, " blocks"],
    sums: Float64[Tensor, "blocks 3"],
    tokens_per_byte: float,
) -> Distance:
    """Return the figures of one form, from the sums of each block."""
    columns = torch.cat([counts[:, None], full_nats[:, None], sums], dim=1)
    n_tokens, nats, other_nats, kl, agreement = totals(columns).unbind(1)
    return Distance(
        bits_per_byte=estimate(other_nats / n_tokens * tokens_per_byte / math.log(2)),
        difference_percent=estimate(100 * (other_nats / nats - 1)),
        kl_nats=estimate(kl / n_tokens),
        top_1_agreement=estimate(agreement / n_tokens),
    )
