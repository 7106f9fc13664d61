"""A prompt on its way into a model: checked, and cut into chunks as it is read."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import SupportsIndex

from receptance.inference.impossible import ImpossibleRequestError

Prompt = str | Iterable[SupportsIndex]
"""A text, or tokens: any integers, from a list or from a stream that does not fit in memory."""


class Chunks(Iterator[list[int]]):
    """The tokens of a prompt, a chunk at a time; at most one chunk of them is in memory.

    It reads one chunk ahead, so that `is_over` is known before the last one was asked for.
    """

    def __init__(
        self,
        tokens: Iterable[SupportsIndex],
        *,
        chunk_tokens: int,
        vocab_size: int,
        if_empty: Sequence[int] = (),
        cut_at: int | None = None,
        n_before: int = 0,
    ) -> None:
        """Read the first chunk.

        Args:
            tokens: Any number of them.
            chunk_tokens: How many a chunk has; the last one may have fewer.
            vocab_size: How many tokens there are.
            if_empty: What stands in for a prompt without tokens.
            cut_at: A chunk ends at each multiple of it as well.
            n_before: How many tokens of the prompt are not handed out, which this counts with.

        Raises:
            ValueError: If `chunk_tokens` is not positive, or a token of the first chunk is not in
                the vocabulary. One further on is refused when its chunk is read.
            TypeError: If it is no integer.
        """
        if chunk_tokens < 1:
            raise ValueError(f"`chunk_tokens` must be at least 1, got {chunk_tokens}")
        self._tokens = iter(tokens)
        self._chunk_tokens = chunk_tokens
        self._vocab_size = vocab_size
        self._cut_at = cut_at
        self._n_read = n_before
        self._next = self._read()
        self.n_tokens = 0
        """How many tokens of the prompt were handed out; those of `if_empty` are none of its."""
        self.is_stand_in = not self._next
        """Whether the prompt had no token, and `if_empty` is handed out."""
        if self.is_stand_in:
            self._next = list(if_empty)

    @property
    def is_over(self) -> bool:
        """Whether there is no further chunk."""
        return not self._next

    def __iter__(self) -> "Chunks":
        return self

    def __next__(self) -> list[int]:
        if not self._next:
            raise StopIteration
        chunk, self._next = self._next, self._read()
        if not self.is_stand_in:
            self.n_tokens += len(chunk)
        return chunk

    def _read(self) -> list[int]:
        n = self._chunk_tokens
        if self._cut_at is not None:
            n = min(n, self._cut_at - self._n_read % self._cut_at)
        chunk = [operator.index(token) for token in islice(self._tokens, n)]
        self._n_read += len(chunk)
        check_tokens(chunk, self._vocab_size)
        return chunk


def check_tokens(tokens: Sequence[int], vocab_size: int) -> None:
    """Refuse tokens that a model does not know.

    Raises:
        ImpossibleRequestError: If one is not from 0 to `vocab_size` - 1.
    """
    if tokens and (min(tokens) < 0 or max(tokens) >= vocab_size):
        wrong = next(token for token in tokens if not 0 <= token < vocab_size)
        raise ImpossibleRequestError(
            f"tokens must be from 0 to {vocab_size - 1}, as the model's vocabulary is, got {wrong}"
        )
