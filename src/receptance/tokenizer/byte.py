"""The tokenizer that needs no vocabulary: bytes."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from receptance.errors import TokenizerError
from receptance.tokenizer.token_table import TableDecoder, TokenTable
from receptance.tokenizer.utf8 import utf8

# UTF-8 never contains the byte 0xFF, so its token is free to mean the character NUL, whose own
# byte 0 is the end of a text. Every text, binary junk included, thus has tokens of its own.
NUL_TOKEN = 255


class BytesTokenizer(TableDecoder):
    """256 tokens: the UTF-8 bytes of the text, with 0 for the end of a text.

    Token and byte are the same number, but for one character: NUL (U+0000), which text hardly ever
    contains, is token 255, a byte that UTF-8 never contains. So token 0 never comes from a text,
    and of all bytes, 0xFF alone has no token.
    """

    name = "bytes"
    vocab_size = 256
    end_of_text = 0

    def __init__(self) -> None:
        meaning = {token: bytes([token]) for token in range(1, 256)} | {NUL_TOKEN: b"\0"}
        self._table = TokenTable(meaning, self.vocab_size)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the table of bytes, in hex."""
        return sha256(b"bytes\n" + self._table.join(range(self.vocab_size))).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Return the UTF-8 bytes of `text`, NUL as 255; see `Tokenizer.encode`."""
        return self.encode_bytes(utf8(text))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the bytes, NUL as 255, and refuse 0xFF; see `Tokenizer.encode_bytes`."""
        place = data.find(NUL_TOKEN)
        if place >= 0:
            message = (
                f"bytes must not hold 0xFF, whose place among the tokens is taken by NUL, but byte "
                f"{place} is 0xFF; take another tokenizer for data that is not UTF-8"
            )
            raise TokenizerError(message)
        return list(_without_nul(data))

    def encode_array(self, text: str) -> UInt8[np.ndarray, " n"]:
        """Return the tokens of `text` as an array, which is many times as fast to make.

        Args:
            text: Any text.

        Raises:
            TokenizerError: If `text` holds a lone surrogate.
        """
        return np.frombuffer(_without_nul(utf8(text)), np.uint8)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text; see `Tokenizer.encode_batch`."""
        return [self.encode(text) for text in texts]

    def save(self, folder: Path) -> None:
        """Write nothing: "bytes" says all; see `Tokenizer.save`."""


def _without_nul(data: bytes) -> bytes:
    return data.replace(b"\0", bytes([NUL_TOKEN]))
