"""How well a model predicts held-out text, in units that no tokenizer changes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional as F

from receptance.data import Split
from receptance.errors import DataError
from receptance.models import RWKV4


@dataclass(frozen=True, kw_only=True)
class Score:
    """The cost of a text under a model."""

    nats: float
    """Sum of -log probability over all tokens."""
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
        return math.exp(self.nats / self.n_tokens)


def score_documents(
    model: RWKV4,
    split: Split,
    *,
    end_of_text: int,
    max_tokens: int | None = None,
    batch_size: int = 16,
    chunk: int = 512,
) -> Score:
    """Return what the documents of `split` cost, each read from the zero state to its end.

    A document of any length is read whole, its state carried from chunk to chunk. Its first token
    is predicted from `end_of_text` alone, and the `end_of_text` after its last one counts too.

    Args:
        model: The model; its weights and all random states are left alone.
        split: Held-out documents.
        end_of_text: The token that separates documents.
        max_tokens: Documents are taken from the first on until there are as many; None for all.
        batch_size: How many documents are read side by side.
        chunk: How many tokens of each are read at once.

    Raises:
        DataError: If there is no document.
    """
    if split.n_documents == 0:
        raise DataError(
            f"{str(split.path)!r} must hold documents to score a model by, but it holds none; "
            "prepare the store with held-out text"
        )
    taken = _take(split, max_tokens)
    # Documents of like length are read together, since a shorter one waits for the longest.
    order = sorted(taken, key=lambda index: len(split.document(index)))
    nats, n_tokens = 0.0, 0
    with torch.no_grad():
        for begin in range(0, len(order), batch_size):
            documents = [split.document(index) for index in order[begin : begin + batch_size]]
            tokens, lengths = _pad(documents, end_of_text)
            nats += _score_rows(model, tokens, lengths, chunk)
            n_tokens += sum(lengths) - len(lengths)
    n_bytes = sum(int(split.documents[index, 1]) for index in taken)
    return Score(nats=nats, n_tokens=n_tokens, n_bytes=n_bytes)


def _take(split: Split, max_tokens: int | None) -> list[int]:
    lengths = np.diff(split.documents[:, 0].astype(np.int64), append=split.n_tokens)
    if max_tokens is None:
        return list(range(len(lengths)))
    count = int(np.searchsorted(np.cumsum(lengths), max_tokens)) + 1
    return list(range(min(count, len(lengths))))


def _pad(documents: list[np.ndarray], end_of_text: int) -> tuple[Int64[Tensor, "B T"], list[int]]:
    """Return the documents as rows, `end_of_text` around each and after it, and their lengths."""
    lengths = [len(document) + 2 for document in documents]
    tokens = torch.full((len(documents), max(lengths)), end_of_text, dtype=torch.int64)
    for row, document in enumerate(documents):
        tokens[row, 1 : 1 + len(document)] = torch.from_numpy(document.astype(np.int64))
    return tokens, lengths


def _score_rows(
    model: RWKV4, tokens: Int64[Tensor, "B T"], lengths: list[int], chunk: int
) -> float:
    """Return the nats of every token after the first of each row, padding left out."""
    nats, state = 0.0, None
    device = model.ln_out.weight.device
    is_text = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
    for begin in range(0, tokens.shape[1] - 1, chunk):
        end = min(begin + chunk, tokens.shape[1] - 1)
        logits, state = model(tokens[:, begin:end].to(device), state)
        targets = tokens[:, begin + 1 : end + 1].flatten().to(device)
        costs = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none").cpu()
        nats += float(costs[is_text[:, begin + 1 : end + 1].flatten()].double().sum())
    return nats
