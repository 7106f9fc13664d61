"""Which tokens count: those that a model is trained to predict, and measured by.

Of a prompt and its answer the answer counts, and the `end_of_text` after it; of a text, all do. A
mask is a file of a byte a token, 1 or 0, so that a stretch of it is found as that of the tokens is.
"""

from collections.abc import Sequence
from typing import NamedTuple

from receptance.tokenizer import Tokenizer


class Counted(NamedTuple):
    """How many of the first tokens of a stretch count."""

    n_tokens: int
    n_bytes: int
    """The bytes of text that they stand for."""


def count_first(tokens: Sequence[int], n_bytes: int, tokenizer: Tokenizer) -> Counted:
    """Return how many of the first tokens count, so that all of the first bytes do.

    Args:
        tokens: Of a piece of text.
        n_bytes: Of its text, from its beginning; a token that begins within them counts.
        tokenizer: Made the tokens.
    """
    n_tokens = done = 0
    while done < n_bytes and n_tokens < len(tokens):
        done += len(tokenizer.decode_bytes(tokens[n_tokens : n_tokens + 1]))
        n_tokens += 1
    return Counted(n_tokens, done)
