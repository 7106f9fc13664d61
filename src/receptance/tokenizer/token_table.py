"""The bytes of every token."""

from collections.abc import Mapping, Sequence

from receptance.errors import TokenizerError

# A token is a row of an embedding. Files with ids far beyond any model's are damaged or hostile.
MAX_TOKEN = 2**20 - 1


class TokenTable:
    """The bytes that each of the tokens 0 … `vocab_size` - 1 stands for.

    A dictionary rather than a list, so that token -1 is refused and not the last one.
    """

    def __init__(self, meaning: Mapping[int, bytes], vocab_size: int) -> None:
        """Keep the bytes of tokens.

        Args:
            meaning: The bytes of the tokens that stand for some; all others stand for none.
            vocab_size: The number of tokens.
        """
        self.vocab_size = vocab_size
        self._meaning = {token: meaning.get(token, b"") for token in range(vocab_size)}

    def join(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of `tokens`, one after the other.

        Args:
            tokens: Tokens in 0 … `vocab_size` - 1.

        Returns:
            The bytes of all, joined.

        Raises:
            TokenizerError: If a token is not in that range.
        """
        try:
            return b"".join(map(self._meaning.__getitem__, tokens))
        except KeyError as error:
            message = (
                f"a token must be in 0 … {self.vocab_size - 1}, got {error.args[0]!r}; "
                f"was it made by another tokenizer?"
            )
            raise TokenizerError(message) from None


class TableDecoder:
    """Decoding by a table, which is the same for every tokenizer that has one."""

    _table: TokenTable

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`; see `Tokenizer.decode`."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of `tokens`; see `Tokenizer.decode_bytes`."""
        return self._table.join(tokens)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token; see `Tokenizer.token_bytes`."""
        return self._table.join((token,))
