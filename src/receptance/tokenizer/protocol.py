"""What every tokenizer can do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Text to tokens and back.

    Tokens are the integers 0 … `vocab_size` - 1. Each stands for some bytes, and what a sequence
    of tokens means is those bytes joined and read as UTF-8. Tokens that stand for no text, the end
    of a text and the unused rows of an embedding among them, stand for no bytes.
    """

    @property
    def name(self) -> str:
        """The kind of tokenizer: "bytes", "bpe" or "world"."""
        ...

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, and so how many rows a model's embedding has."""
        ...

    @property
    def end_of_text(self) -> int:
        """The token that separates documents, 0 in every tokenizer of this package."""
        ...

    @property
    def sha256(self) -> str:
        """The SHA-256 of what defines the tokenizer, in hex: equal when the tokens are."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`; `end_of_text` and special tokens are never among them.

        Args:
            text: Any text. What looks like a special token in it is text as well.

        Returns:
            The tokens.

        Raises:
            TokenizerError: If `text` holds a lone surrogate, which UTF-8 cannot express.
        """
        ...

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the tokens of `data`, which need not be UTF-8.

        What is UTF-8 has the tokens of its text: `encode_bytes(text.encode())` is `encode(text)`.
        `decode_bytes` gives `data` back, except that a `tokenizer.json` may normalise its text. A
        byte that has no token is an error; it never becomes U+FFFD or another byte.

        Args:
            data: Any bytes. What looks like a special token in them is text as well.

        Returns:
            The tokens; `end_of_text` and special tokens are never among them.

        Raises:
            TokenizerError: If a byte has no token, which never happens with "world", with "bytes"
                for 0xFF, and with "bpe" for bytes that are not UTF-8 where they stand and that
                the vocabulary does not have alone.
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, the same as from `encode`, as parallel as can be.

        Args:
            texts: Any texts.

        Returns:
            One list of tokens per text.

        Raises:
            TokenizerError: If a text holds a lone surrogate.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`, with U+FFFD for bytes that are not UTF-8.

        Args:
            tokens: Any tokens of this tokenizer; `end_of_text` adds nothing to the text.

        Returns:
            The text.

        Raises:
            TokenizerError: If a token is not one of this tokenizer.
        """
        ...

    def decode_bytes(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of `tokens`, UTF-8 or not.

        Args:
            tokens: Any tokens of this tokenizer.

        Returns:
            The bytes of all tokens, joined.

        Raises:
            TokenizerError: If a token is not one of this tokenizer.
        """
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that one token stands for, which may be a part of a character.

        Args:
            token: A token of this tokenizer.

        Returns:
            Its bytes; none for `end_of_text`, special and unused tokens.

        Raises:
            TokenizerError: If `token` is not one of this tokenizer.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the file from which `load_tokenizer(folder)` makes this tokenizer again.

        Bytes have no file: whoever saves them must note that it was they.

        Args:
            folder: An existing folder.

        Raises:
            OSError: If the file cannot be written; one that was there is then untouched.
        """
        ...
