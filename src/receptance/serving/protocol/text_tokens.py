"""Which tokens a text was written by: those of which something is in it."""

from collections.abc import Sequence
from typing import NamedTuple

from receptance.inference import TokenLogprobs
from receptance.tokenizer import Detokenizer, Tokenizer


class PlacedToken(NamedTuple):
    """A token that was chosen, and where its text stands in all that was written."""

    said: TokenLogprobs
    start: int
    """In characters; of a token that goes on with a character, where this character will stand."""
    end: int


class TextTokens:
    """Gives out the tokens of a text as the text is let out, and none that is not in it.

    Joined, the texts of the tokens are the text, but that the first may begin with space that was
    cut off, and the last may go on with the beginning of a stop text. The token that ends a text
    has no text, and comes last.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin an empty text.

        Args:
            tokenizer: Of the model.
        """
        self._vocab_size = tokenizer.vocab_size
        self._detokenizer = Detokenizer(tokenizer)
        self._n_written = 0
        self._n_out = 0
        self._n_cut = 0
        self._held: list[PlacedToken] = []

    def push(
        self,
        tokens: Sequence[TokenLogprobs],
        text: str,
        *,
        n_cut: int = 0,
        ended: str | None = None,
    ) -> list[PlacedToken]:
        """Return the tokens that can be told of by now.

        Args:
            tokens: The next that were chosen.
            text: What of the text was let out since the last call.
            n_cut: How many characters of it are cut off, as all that came before.
            ended: The text's `finish_reason`, if it is over.
        """
        for each in tokens:
            start = self._n_written
            if each.token < self._vocab_size:
                self._n_written += len(self._detokenizer.push(each.token))
            self._held.append(PlacedToken(each, start, self._n_written))
        self._n_out += len(text)
        self._n_cut += n_cut
        n = len(self._held)
        # A stop text is the only thing that is written and not let out in the end.
        if ended in (None, "stop"):
            n = next((i for i, each in enumerate(self._held) if each.start >= self._n_out), n)
        told, self._held = self._held[:n], self._held[n:]
        return [each for each in told if each.start >= self._n_cut or each.end > self._n_cut]
