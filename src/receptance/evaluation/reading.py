"""How documents of any length are read: side by side, chunk by chunk, their states carried over.

Each is read whole, or in windows that overlap, at each of which the state begins anew.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from receptance.evaluation.documents import Document
from receptance.models import RWKV4, RWKV4State, State

ROWS_OF_LOGITS = 128
"""How many tokens' logits are held at once: at 50,277 tokens in the vocabulary 26 MB in float32."""


class Span(NamedTuple):
    """Successive tokens of a document that are read from one start on."""

    document: int
    """Which document, by its index."""
    begin: int
    end: int
    """The first token that is not read."""
    counted: int
    """The first one that counts; those before it are read for what they tell of it."""


class Passage(NamedTuple):
    """The next tokens of several spans that are read side by side."""

    documents: list[int]
    """Whose they are, by the documents' indices; one a row."""
    is_start: bool
    """Whether the state is that of the start, else it is that of the passage before."""
    places: Int64[Tensor, "B T"]
    """Where in their documents the targets are."""
    tokens: Int64[Tensor, "B T"]
    """What is fed."""
    targets: Int64[Tensor, "B T"]
    """What is predicted: `targets[b, t]` is token `places[b, t]` of its document."""
    is_counted: Bool[Tensor, "B T"]
    """Whether there is such a token, and it counts; what is beyond a span's end does not."""


Spans = Int64[np.ndarray, "spans 4"]
"""Many of them, a row each, in 32 bytes."""


def whole(documents: Sequence[Document]) -> Spans:
    """Return each document as one span, all of which counts."""
    spans = np.zeros((len(documents), 4), dtype=np.int64)
    spans[:, 0] = np.arange(len(documents))
    spans[:, 2] = [len(each.tokens) for each in documents]
    return spans


def windows(documents: Sequence[Document], length: int, stride: int) -> Spans:
    """Return windows over each document, in which every token of it counts once.

    A window begins `stride` tokens after the one before it, and what counts in it is what that
    did not reach. A token is so predicted from at most `length` tokens, and from at least
    `length - stride + 1` unless it is among the first `length` of its document, which are predicted
    from all before them.

    Args:
        documents: What is read.
        length: The most tokens that a window has.
        stride: From 1 on, where each token has a window of its own, to `length`.

    Raises:
        ValueError: If `stride` is not in this range.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"`stride` must be from 1 to the window of {length} tokens, got {stride}")
    parts = [np.zeros((0, 4), dtype=np.int64)]
    for index, document in enumerate(documents):
        n_tokens = len(document.tokens)
        begins = np.arange(0, max(1, n_tokens - length + stride), stride)
        ends = np.minimum(begins + length, n_tokens)
        counted = np.concatenate([[0], ends[:-1]])
        parts.append(np.stack([np.full_like(begins, index), begins, ends, counted], axis=1))
    return np.concatenate(parts)


def passages(
    documents: Sequence[Document],
    *,
    end_of_text: int,
    batch_size: int,
    chunk: int,
    spans: Spans | None = None,
) -> Iterator[Passage]:
    """Yield spans of documents in passages of at most `chunk` tokens.

    The first token of a span is predicted from the one before it, and that of a document from
    `end_of_text`. Spans of like length are read together, since a shorter one waits for the
    longest.

    Args:
        documents: What is read.
        end_of_text: The token that separates documents.
        batch_size: How many spans are read side by side.
        chunk: How many tokens of each are read at once.
        spans: What of them; None for all, each document as one span.
    """
    spans = whole(documents) if spans is None else spans
    order = np.argsort(spans[:, 2] - spans[:, 1], kind="stable")
    for first in range(0, len(order), batch_size):
        rows = [Span(*each) for each in spans[order[first : first + batch_size]].tolist()]
        longest = rows[-1].end - rows[-1].begin
        befores = [
            int(documents[it.document].tokens[it.begin - 1]) if it.begin else end_of_text
            for it in rows
        ]
        last = torch.tensor(befores)[:, None]
        for begin in range(0, longest, chunk):
            width = min(chunk, longest - begin)
            targets, is_counted = _targets(documents, rows, begin, width, end_of_text)
            places = torch.tensor([it.begin + begin for it in rows])[:, None] + torch.arange(width)
            tokens = torch.cat([last, targets[:, :-1]], dim=1)
            indices = [it.document for it in rows]
            yield Passage(indices, begin == 0, places, tokens, targets, is_counted)
            last = targets[:, -1:]


def _targets(
    documents: Sequence[Document], rows: Sequence[Span], begin: int, width: int, filling: int
) -> tuple[Int64[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Return the tokens of spans from their place `begin` on, and which of them count."""
    targets = torch.full((len(rows), width), filling)
    is_counted = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, (index, first, end, counted) in enumerate(rows):
        part = slice(first + begin, min(first + begin + width, end))
        tokens, mask = documents[index].tokens[part], documents[index].mask
        targets[row, : len(tokens)] = torch.from_numpy(tokens.astype("int64"))
        is_counted[row, max(0, counted - part.start) : len(tokens)] = True
        if mask is not None:
            is_counted[row, : len(tokens)] &= torch.from_numpy(mask[part] == 1)
    return targets, is_counted


class Reader:
    """A model that reads passages in their order and remembers its state between them."""

    def __init__(self, model: RWKV4, start: State | None = None) -> None:
        """Begin with no document.

        Args:
            model: What reads.
            start: The state of one sequence from which it reads each document; None is the
                model's own start.
        """
        self.model = model
        self._start = start
        self.device = model.ln_out.weight.device
        self._state: RWKV4State | None = None

    def features(self, passage: Passage) -> Float[Tensor, "n C"]:
        """Return what the model gives to its head for each of `passage.is_counted`, in order."""
        state = self._state
        if passage.is_start:
            state = self._start and self._start.select([0] * len(passage.tokens))
            assert state is None or isinstance(state, RWKV4State)
        x, self._state = self.model.features(passage.tokens.to(self.device), state)
        return x[passage.is_counted.to(self.device)]

    def logits(self, features: Float[Tensor, "n C"]) -> Float[Tensor, "n V"]:
        """Return the logits of some of these tokens, in the dtype of the stream."""
        return self.model.head(features).to(features.dtype)

    def nats(self, passage: Passage) -> Float64[Tensor, " n"]:
        """Return what each of `passage.is_counted` costs, in order, on the processor."""
        features = self.features(passage)
        targets = passage.targets[passage.is_counted].to(self.device)
        parts = zip(features.split(ROWS_OF_LOGITS), targets.split(ROWS_OF_LOGITS), strict=True)
        costs = [F.cross_entropy(self.logits(x), each, reduction="none") for x, each in parts]
        return torch.cat(costs).double().cpu()
