"""How likely tokens were, in the two shapes of OpenAI's answers."""

from collections.abc import Sequence
from typing import Any

from receptance.inference import TokenLogprobs
from receptance.serving.protocol.text_tokens import TextTokens
from receptance.tokenizer import Detokenizer, Tokenizer

FLOOR = -9999.0
"""Stands for ln 0, which JSON cannot say."""

VALUES_OF_A_CHAT_LOGPROB = 8
"""Values of JSON, about, that one token with its number is in the answer of a chat."""
VALUES_OF_A_COMPLETION_LOGPROB = 2
"""In that of a completion."""


class TokenTexts:
    """The names of tokens: their text, or their bytes where these are no text alone."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take the tokenizer whose tokens are named."""
        self._tokenizer = tokenizer

    def bytes_of(self, token: int) -> bytes:
        r"""Return the bytes of a token; none for a row of the model that has no token."""
        if token >= self._tokenizer.vocab_size:
            return b""
        return self._tokenizer.token_bytes(token)

    def name(self, token: int) -> str:
        r"""Return the text of a token, or such as `bytes:\xe4\xb8` for a part of a character.

        So two tokens never have one name, as they would if each were U+FFFD. (OpenAI's way.)
        """
        data = self.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_logprobs(tokens: Sequence[TokenLogprobs], texts: TokenTexts) -> dict[str, Any]:
    """Return the `logprobs` of a choice of a chat.

    Args:
        tokens: Those of the text, in order.
        texts: Names the tokens.
    """

    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = texts.bytes_of(token)
        return {"token": texts.name(token), "bytes": list(data), "logprob": max(logprob, FLOOR)}

    content = [
        {**entry(each.token, each.logprob), "top_logprobs": [entry(*pair) for pair in each.top]}
        for each in tokens
    ]
    return {"content": content, "refusal": None}


class CompletionLogprobs:
    """The `logprobs` of a choice of a completion, piece by piece.

    An offset is where the token's text begins in the text of the choice: for a token that goes on
    with a character, where this character will stand. All are within the text, but that of the
    token that ends it.
    """

    def __init__(self, texts: TokenTexts, tokenizer: Tokenizer) -> None:
        """Begin at the choice's first token.

        Args:
            texts: Names the tokens.
            tokenizer: Of the model.
        """
        self._texts = texts
        self._tokenizer = tokenizer
        self._text_tokens = TextTokens(tokenizer)
        self._offset = 0

    def echo(
        self, tokens: Sequence[int], said: Sequence[TokenLogprobs | None], text: str
    ) -> dict[str, Any]:
        """Return what is to be said of a prompt that stands before the text.

        Args:
            tokens: The prompt.
            said: Of each one; None for the first, which nothing predicts.
            text: The prompt, too.
        """
        detokenizer, offsets, offset = Detokenizer(self._tokenizer), list[int](), 0
        for token in tokens:
            offsets.append(offset)
            offset += len(detokenizer.push(token))
        self._offset = len(text)
        return self._object(tokens, said, offsets)

    def push(
        self, tokens: Sequence[TokenLogprobs], text: str, ended: str | None = None
    ) -> dict[str, Any]:
        """Return what is to be said of the tokens that `text` was written by.

        Args:
            tokens: As for `TextTokens.push`.
            text: Likewise.
            ended: Likewise.
        """
        placed = self._text_tokens.push(tokens, text, ended=ended)
        said = [each.said for each in placed]
        offsets = [self._offset + each.start for each in placed]
        return self._object([each.token for each in said], said, offsets)

    def _object(
        self, tokens: Sequence[int], said: Sequence[TokenLogprobs | None], offsets: list[int]
    ) -> dict[str, Any]:
        return {
            "tokens": [self._texts.name(token) for token in tokens],
            "token_logprobs": [each and max(each.logprob, FLOOR) for each in said],
            "top_logprobs": [each and self._top(each) for each in said],
            "text_offset": offsets,
        }

    def _top(self, each: TokenLogprobs) -> dict[str, float]:
        """Return the likeliest tokens by name, and the one that was chosen beside them."""
        top: dict[str, float] = {}
        for token, logprob in (*each.top, (each.token, each.logprob)):
            top.setdefault(self._texts.name(token), max(logprob, FLOOR))
        return top


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return several of what `CompletionLogprobs.push` gave, in order, as one."""
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [each for part in parts for each in part[name]] for name in names}
