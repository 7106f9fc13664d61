"""One text on its way through a grammar: a `Constraint` of the engine."""

import llguidance
import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from receptance.errors import RequestError


class Matching:
    """Which tokens may come next in one text."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int) -> None:
        """Begin a text.

        Args:
            matcher: Of this text alone.
            vocab_size: How many tokens the tokenizer has.
        """
        self._matcher = matcher
        self._vocab_size = vocab_size

    @property
    def is_over(self) -> bool:
        """Whether the text is whole and nothing can follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def allowed(self) -> Bool[Tensor, " V"]:
        """Return which tokens may come next, the one that ends a text among them.

        Raises:
            RequestError: If the grammar takes too much to go on with.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise _gave_up()
        mask = np.unpackbits(bits, count=self._vocab_size, bitorder="little")
        return torch.from_numpy(mask.view(np.bool_))

    def accept(self, token: int) -> None:
        """Go on by a token.

        Raises:
            RequestError: If it was not allowed, or the grammar takes too much to go on with.
        """
        if not self._matcher.consume_token(token):
            raise _gave_up()


def _gave_up() -> RequestError:
    return RequestError(_BROKEN, code="grammar_failed", param="response_format")


_BROKEN = (
    "`response_format` must be a grammar that a text can be kept to, but it took too much when "
    "the text had come this far; make it simpler"
)
