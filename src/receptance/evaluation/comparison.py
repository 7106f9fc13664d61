"""How far other forms of a model, such as quantized ones, are from the full one on a text.

Of each token n, with p the distribution that the full model predicts and q that of another form,

    nats of each form     -log p_n, -log q_n
    KL                    Σ_v p(v) (log p(v) - log q(v))
    agreement             1 where the same token is the likeliest under both, else 0

The 95 % intervals are those of a paired block bootstrap (`bootstrap.py`): the same blocks
(`blocks.py`) are drawn for all forms.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from receptance.evaluation.blocks import BlockSums, TextBlocks
from receptance.evaluation.bootstrap import Estimate, estimate, totals
from receptance.evaluation.documents import Document
from receptance.evaluation.reading import ROWS_OF_LOGITS, Passage, Reader, passages
from receptance.models import RWKV4
from receptance.tokenizer import Tokenizer


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
    """What a text costs the full model, and how far each other form is from it."""

    full: BlockSums
    distances: dict[str, Distance]


def compare(
    full: RWKV4,
    variants: Mapping[str, RWKV4],
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    batch_size: int = 16,
    chunk: int = 256,
) -> Comparison:
    """Return how far `variants` are from `full` on documents that all of them read side by side.

    The documents are read as by `measure`, from the zero state; of no more than `ROWS_OF_LOGITS`
    tokens are logits in memory at any time. Probabilities are float64.

    Args:
        full: What the others are compared with.
        variants: Models of the same vocabulary, by name.
        documents: What is read, all of which counts.
        tokenizer: That made their tokens.
        batch_size: How many documents are read side by side.
        chunk: How many tokens of each are read at once.

    Raises:
        ValueError: If there is no document, or one has a mask.
    """
    blocks = TextBlocks(documents, tokenizer)
    tokens = torch.zeros(len(blocks), dtype=torch.float64)
    nats = torch.zeros_like(tokens)
    sums = {name: torch.zeros(len(blocks), 3, dtype=torch.float64) for name in variants}
    reader, readers = Reader(full), {name: Reader(model) for name, model in variants.items()}
    with torch.no_grad():
        for passage in passages(
            documents, end_of_text=tokenizer.end_of_text, batch_size=batch_size, chunk=chunk
        ):
            index = blocks.of(passage)
            costs, figures = _figures(reader, readers, passage)
            tokens.index_add_(0, index, torch.ones_like(costs))
            nats.index_add_(0, index, costs)
            for name, each in figures.items():
                sums[name].index_add_(0, index, each)
    of_full = BlockSums(nats=nats, tokens=tokens, bytes=blocks.bytes, words=blocks.words)
    return Comparison(of_full, {name: _distance(of_full, each) for name, each in sums.items()})


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


def _distance(full: BlockSums, sums: Float64[Tensor, "blocks 3"]) -> Distance:
    """Return the figures of one form, from the sums of each block."""
    columns = torch.stack([full.tokens, full.bytes, full.nats, *sums.unbind(1)], dim=1)
    n_tokens, n_bytes, nats, other_nats, kl, agreement = totals(columns).unbind(1)
    return Distance(
        bits_per_byte=estimate(other_nats / n_bytes / math.log(2)),
        difference_percent=estimate(100 * (other_nats / nats - 1)),
        kl_nats=estimate(kl / n_tokens),
        top_1_agreement=estimate(agreement / n_tokens),
    )
