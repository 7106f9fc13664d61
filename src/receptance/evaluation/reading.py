"""How documents of any length are read: side by side, chunk by chunk, their states carried over."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from receptance.evaluation.documents import Document
from receptance.models import RWKV4, RWKV4State, State

ROWS_OF_LOGITS = 128
"""How many tokens' logits are held at once: at 50,277 tokens in the vocabulary 26 MB in float32."""


class Passage(NamedTuple):
    """The next tokens of several documents that are read side by side."""

    documents: list[int]
    """Which documents they are, by their index; one a row."""
    begin: int
    """Where in them; at 0 the state is that of the start, else that of the passage before."""
    tokens: Int64[Tensor, "B T"]
    """What is fed."""
    targets: Int64[Tensor, "B T"]
    """What is predicted: `targets[b, t]` is token `begin + t` of its document."""
    is_counted: Bool[Tensor, "B T"]
    """Whether there is such a token, and it counts; what is beyond a document's end does not."""


def passages(
    documents: Sequence[Document], *, end_of_text: int, batch_size: int, chunk: int
) -> Iterator[Passage]:
    """Yield documents in passages of at most `chunk` tokens.

    The first token of each is predicted from `end_of_text` alone. Documents of like length are
    read together, since a shorter one waits for the longest.
    """
    order = sorted(range(len(documents)), key=lambda index: len(documents[index].tokens))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        lengths = torch.tensor([len(documents[index].tokens) for index in rows])
        last = torch.full((len(rows), 1), end_of_text)
        for begin in range(0, int(lengths.max()), chunk):
            width = min(chunk, int(lengths.max()) - begin)
            targets = torch.full((len(rows), width), end_of_text)
            for row, index in enumerate(rows):
                part = documents[index].tokens[begin : begin + width]
                targets[row, : len(part)] = torch.from_numpy(part.astype("int64"))
            tokens = torch.cat([last, targets[:, :-1]], dim=1)
            is_counted = begin + torch.arange(width) < lengths[:, None]
            for row, index in enumerate(rows):
                mask = documents[index].mask
                if mask is not None:
                    part = torch.from_numpy(mask[begin : begin + width] == 1)
                    is_counted[row, : len(part)] = part
            yield Passage(rows, begin, tokens, targets, is_counted)
            last = targets[:, -1:]


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
        if not passage.begin:
            state = self._start and self._start.select([0] * len(passage.tokens))
            assert state is None or isinstance(state, RWKV4State)
        x, self._state = self.model.features(passage.tokens.to(self.device), state)
        return x[passage.is_counted.to(self.device)]

    def logits(self, features: Float[Tensor, "n C"]) -> Float[Tensor, "n V"]:
        """Return the logits of some of these tokens, in the dtype of the stream."""
        return self.model.head(features).to(features.dtype)
