"""The tokenizer of the RWKV World models: the longest match in a fixed vocabulary."""

import ast
import re
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from receptance.atomic import atomic_file
from receptance.errors import TokenizerError
from receptance.tokenizer.longest_match import LongestMatch
from receptance.tokenizer.token_table import MAX_TOKEN, TableDecoder, TokenTable
from receptance.tokenizer.utf8 import utf8

VOCABULARY_FILE = "rwkv_vocab_v20230424.txt"

# One quoted literal as Python's `repr` writes it, and nothing that Python would have to evaluate.
_STRING_ESCAPE = r"\\(?:[nrt\\'\"]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"
_BYTES_ESCAPE = r"\\(?:[nrt\\'\"]|x[0-9a-f]{2})"
_LINE = re.compile(
    rf"""([0-9]{{1,8}})\ (
         '[^'\\]*+(?:{_STRING_ESCAPE}[^'\\]*+)*+' | "[^"\\]*+(?:{_STRING_ESCAPE}[^"\\]*+)*+"
       | b'[^'\\]*+(?:{_BYTES_ESCAPE}[^'\\]*+)*+' | b"[^"\\]*+(?:{_BYTES_ESCAPE}[^"\\]*+)*+"
    )\ ([0-9]{{1,8}})""",
    re.VERBOSE,
)

# `LongestMatch` may once need time quadratic in the length of a token. The longest published one
# has 128 bytes.
_MAX_TOKEN_BYTES = 1024

# The published models have 65536 rows for a vocabulary that ends at 65529: matrices divide well
# into blocks of 64 rows.
_ROWS = 64


class WorldTokenizer(TableDecoder):
    """The RWKV World vocabulary, or another in its format, matched longest token first.

    A vocabulary is text with one token a line: `id literal length`, the literal being what Python's
    `repr` gives for the token as `str` or `bytes`, the length its number of bytes in UTF-8. It is
    parsed, never evaluated. Token 0 is not in the file: it is the end of a text. `vocab_size` is
    the largest id + 1, rounded up to a multiple of 64, which gives the 65536 of the published
    models; tokens that no line defines stand for no bytes.

    Source: rwkv_vocab_v20230424.txt and rwkv_tokenizer.py of BlinkDL/ChatRWKV.
    """

    name = "world"
    end_of_text = 0

    def __init__(self, vocabulary: bytes, *, source: str = VOCABULARY_FILE) -> None:
        """Read a vocabulary.

        Args:
            vocabulary: The content of the file, kept for `save`.
            source: What error messages call it.

        Raises:
            TokenizerError: If a line is not of the format, if a token has more than 1024 bytes, if
                an id or a token comes twice, or if one of the 256 single bytes is missing.
        """
        self._vocabulary = vocabulary
        self._tokens = _parse(vocabulary, source)
        largest = max(self._tokens.values())
        self._table = TokenTable(
            {token: token_bytes for token_bytes, token in self._tokens.items()},
            vocab_size=-(-(largest + 1) // _ROWS) * _ROWS,
        )
        self._match = LongestMatch(self._tokens)

    @classmethod
    def load(cls, path: Path) -> "WorldTokenizer":
        """Return the tokenizer of a vocabulary file.

        Args:
            path: The file.

        Returns:
            The tokenizer.

        Raises:
            TokenizerError: If the file is not such a vocabulary.
            OSError: If the file cannot be read.
        """
        return cls(path.read_bytes(), source=str(path))

    @property
    def vocab_size(self) -> int:
        """The number of tokens, unused ones included; see the class."""
        return self._table.vocab_size

    @property
    def sha256(self) -> str:
        """The SHA-256 of all ids and their bytes, in hex, however the file ends its lines."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        digest = sha256(b"world\n")
        for token_bytes, token in sorted(self._tokens.items(), key=lambda item: item[1]):
            digest.update(f"{token} {token_bytes.hex()}\n".encode())
        return digest.hexdigest()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, in time linear in it; see `Tokenizer.encode`."""
        return self._match.tokens(utf8(text))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the tokens of any bytes, in time linear in them; see `Tokenizer.encode_bytes`."""
        return self._match.tokens(data)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text; see `Tokenizer.encode_batch`."""
        return [self.encode(text) for text in texts]

    def save(self, folder: Path) -> None:
        """Write the vocabulary, byte for byte as it was read; see `Tokenizer.save`."""
        with atomic_file(folder / VOCABULARY_FILE) as path:
            path.write_bytes(self._vocabulary)


def _parse(vocabulary: bytes, source: str) -> dict[bytes, int]:
    """Return the id of each token in the content of a vocabulary file."""
    try:
        lines = vocabulary.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        message = f"{source}: a vocabulary must be UTF-8, but byte {error.start} is not"
        raise TokenizerError(message) from error
    if lines[-1] == "":
        lines.pop()
    tokens: dict[bytes, int] = {}
    line_of: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            token, token_bytes = _parse_line(line.removesuffix("\r"))
        except TokenizerError as error:
            raise TokenizerError(f"{source}:{number}: {error}") from None
        if token in line_of:
            message = f"an id must come once, but {token} is in line {line_of[token]}"
            raise TokenizerError(f"{source}:{number}: {message}")
        if token_bytes in tokens:
            first = line_of[tokens[token_bytes]]
            message = f"a token must come once, but {token_bytes!r} is in line {first}"
            raise TokenizerError(f"{source}:{number}: {message}")
        tokens[token_bytes] = token
        line_of[token] = number
    missing = [byte for byte in range(256) if bytes([byte]) not in tokens]
    if missing:
        message = (
            f"{source}: a vocabulary must have all 256 single bytes, so that it can express any "
            f"text, but {len(missing)} are missing, {bytes(missing[:1])!r} among them"
        )
        raise TokenizerError(message)
    return tokens


def _parse_line(line: str) -> tuple[int, bytes]:
    """Return the id and the bytes of the token that a line defines."""
    match = _LINE.fullmatch(line)
    token_bytes = _literal_bytes(match[2]) if match else None
    if match is None or token_bytes is None:
        message = (
            f"a line must be `id literal length`, the literal as Python's repr() writes a str or "
            f"bytes, as in `300 'the' 3`, got {line[:80]!r}"
        )
        raise TokenizerError(message)
    token, length = int(match[1]), int(match[3])
    if not 0 < token <= MAX_TOKEN:
        message = f"an id must be in 1 … {MAX_TOKEN} (0 is the end of a text), got {token}"
        raise TokenizerError(message)
    if not token_bytes:
        raise TokenizerError(f"a token must have at least one byte, got {line[:80]!r}")
    if len(token_bytes) > _MAX_TOKEN_BYTES:
        message = f"a token must have at most {_MAX_TOKEN_BYTES} bytes, got {len(token_bytes)}"
        raise TokenizerError(message)
    if length != len(token_bytes):
        message = f"the length must be {len(token_bytes)}, the token's bytes, got {length}"
        raise TokenizerError(message)
    return token, token_bytes


def _literal_bytes(literal: str) -> bytes | None:
    """Return the bytes that a literal stands for, None for what UTF-8 or bytes cannot hold."""
    try:
        if "\\" in literal:
            value: str | bytes = ast.literal_eval(literal)
            return value.encode() if isinstance(value, str) else value
        # Nearly every line: no escape to resolve, and five times as fast.
        if literal.startswith("b"):
            return literal[2:-1].encode("ascii")
        return literal[1:-1].encode()
    except (SyntaxError, ValueError):
        return None
