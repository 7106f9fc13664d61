"""How well a model predicts held-out text, in units that no tokenizer changes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from receptance.evaluation.documents import Document
from receptance.evaluation.reading import Reader, passages
from receptance.models import RWKV4, State


@dataclass(frozen=True, kw_only=True)
class Score:
    """The cost of a text under a model."""

    nats: float
    """Sum of -log probability over all tokens that count."""
    n_tokens: int
    """Tokens predicted, the one that ends each document among them."""
    n_bytes: int
    """Bytes of UTF-8 that they stand for."""

    @property
    def bits_per_byte(self) -> float:
        """What the text costs; a compressor's size over the size of the text is comparable."""
        return self.nats / math.log(2) / self.n_bytes

    @property
    def bits_per_token(self) -> float:
        """The same for a token, nats / (n_tokens log 2)."""
        return self.nats / math.log(2) / self.n_tokens

    @property
    def perplexity(self) -> float:
        """The same as a number of equally likely tokens, exp(nats / n_tokens)."""
        try:
            return math.exp(self.nats / self.n_tokens)
        except OverflowError:
            return math.inf


def score_documents(
    model: RWKV4,
    documents: Sequence[Document],
    *,
    end_of_text: int,
    batch_size: int = 16,
    chunk: int = 512,
    start: State | None = None,
) -> Score:
    """Return what documents cost, each read from the start to its end.

    A document of any length is read whole, its state carried from chunk to chunk. Its first token
    is predicted from `end_of_text` alone, and the `end_of_text` after its last one counts too.

    Args:
        model: The model; its weights and all random states are left alone.
        documents: What is read.
        end_of_text: The token that separates documents.
        batch_size: How many documents are read side by side.
        chunk: How many tokens of each are read at once.
        start: The state of one sequence with which each begins; None is the model's own start.
    """
    reader = Reader(model, start)
    with torch.no_grad():
        nats = sum(
            float(reader.nats(passage).sum())
            for passage in passages(
                documents, end_of_text=end_of_text, batch_size=batch_size, chunk=chunk
            )
        )
    return Score(
        nats=float(nats),
        n_tokens=sum(each.n_counted for each in documents),
        n_bytes=sum(each.n_bytes for each in documents),
    )
