"""Tokens to text as they arrive."""

import codecs

from receptance.tokenizer.protocol import Tokenizer


class Detokenizer:
    """Text from tokens that arrive one at a time, in whole characters.

    A character may be spread over several tokens; its text comes with the last of them. All texts
    from `push`, followed by the one from `flush`, are `tokenizer.decode` of all tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin an empty text.

        Args:
            tokenizer: The tokenizer whose tokens will arrive.
        """
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the text that `token` completes.

        Args:
            token: The next token.

        Returns:
            Zero or more whole characters; U+FFFD for bytes that can no longer become one.

        Raises:
            TokenizerError: If `token` is not one of the tokenizer; the text goes on as if it had
                not come.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        """Return what is left, and begin an empty text.

        Returns:
            U+FFFD if the tokens ended within a character, otherwise nothing.
        """
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
