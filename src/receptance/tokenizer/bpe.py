"""Byte-level BPE, through the `tokenizers` library."""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from receptance.atomic import atomic_file
from receptance.errors import TokenizerError
from receptance.tokenizer.pieces import PIECE_CHARACTERS, can_be_cut_in, groups, pieces
from receptance.tokenizer.token_table import MAX_TOKEN, TableDecoder, TokenTable
from receptance.tokenizer.utf8 import utf8

TOKENIZER_FILE = "tokenizer.json"
END_OF_TEXT = "<|endoftext|>"

# How `train_bpe` splits a text before it joins bytes within the parts; alternative by alternative:
#   - a word takes one character before it along ("·word", ".join", "(self", "'s"), since few
#     different ones precede it, and often; marks count as letters, so that no script is split
#     inside its words;
#   - a digit is alone, so that all numbers are spelled alike;
#   - punctuation takes the line end and the indentation that follow it, so that ":⏎········" can be
#     one token of a program, and so do line ends after anything else;
#   - a run of spaces leaves its last one to the word that follows.
# Bytes a token with 4096 tokens, trained on 4 MB of the Python standard library and 0.9 MB of
# WikiText-2, on held-out text of each: 3.55 and 3.21; with GPT-2's pattern 3.37 and 3.31, which is
# ahead on WikiText-2 by keeping numbers whole.
PATTERN = (
    r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+(?:[\r\n]+[^\S\r\n]*)?"
    r"|\s*[\r\n]+[^\S\r\n]*"
    r"|\s+(?!\S)"
    r"|\s+"
)

# 0xC0, 0xC1 and 0xF5 … 0xFF are in no UTF-8, and published vocabularies lack them.
_BYTES_OF_UTF8 = frozenset(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}

# What `errors="surrogateescape"` makes of bytes that are not UTF-8: of each a surrogate, which no
# UTF-8 stands for.
_ESCAPED = re.compile("([\udc80-\udcff]+)")
_ESCAPE = 0xDC00

# Letter case, space at either end and inside, a line, indentation, digits, an accent, a script
# without spaces, and an emoji: what encoding must not change. It is in NFC.
_PROBE = f" Receptance  is 123,\n\t    not{END_OF_TEXT}a caf\u00e9;\r\n漢字 🙂\n "


class BPETokenizer(TableDecoder):
    """A byte-level BPE from a `tokenizer.json`, such as GPT-NeoX's of the RWKV-4 Pile models.

    The text of a special token in a text is text: only the caller can say that a text ends. Added
    tokens that are not special, NeoX's runs of spaces, are matched. `decode(encode(text))` is
    `text`, or its NFC where the file asks for NFC. `vocab_size` is the largest id + 1, added tokens
    included. Truncation, padding and dropout in the file are ignored; they change the text.
    """

    name = "bpe"
    end_of_text = 0

    def __init__(self, definition: str, *, source: str = TOKENIZER_FILE) -> None:
        """Read a tokenizer.

        Args:
            definition: The content of `tokenizer.json`, kept for `save`.
            source: What error messages call it.

        Raises:
            TokenizerError: If it is not JSON that the `tokenizers` library can read, not byte-level
                BPE, if `<|endoftext|>` is not its token 0, or if it would change text.
        """
        self._definition = definition
        parsed = _parse(definition, source)
        # What runs is what `sha256` is about. Sorted and escaped, so that it is one for all.
        self._canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
        self._library = _library(self._canonical, source)
        added = self._library.get_added_tokens_decoder()
        _check_end_of_text(self._library, source)
        special = {token for token, entry in added.items() if entry.special} | {self.end_of_text}
        meaning = _meaning(self._library, source)
        text = {token: b for token, b in meaning.items() if token not in special}
        self._table = TokenTable(text, vocab_size=max(meaning) + 1)
        self._token_of_escape = {
            chr(_ESCAPE + b[0]): token for token, b in text.items() if len(b) == 1
        }
        self._is_cut = _can_cut(parsed) and not any(
            can_be_cut_in(entry.content) for entry in added.values() if not entry.special
        )
        self._check_that_text_stays_text(special, source)

    @classmethod
    def load(cls, path: Path) -> "BPETokenizer":
        """Return the tokenizer of a `tokenizer.json`.

        Args:
            path: The file, under any name.

        Returns:
            The tokenizer.

        Raises:
            TokenizerError: If the file is not a byte-level BPE with `<|endoftext|>` as token 0.
            OSError: If the file cannot be read.
        """
        try:
            return cls(path.read_bytes().decode("utf-8"), source=str(path))
        except UnicodeDecodeError as error:
            message = f"{path}: a tokenizer must be UTF-8, but byte {error.start} is not"
            raise TokenizerError(message) from error

    @property
    def vocab_size(self) -> int:
        """The largest id + 1."""
        return self._table.vocab_size

    @property
    def sha256(self) -> str:
        """The SHA-256 of the JSON with sorted keys and without white space, in hex."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return sha256(b"bpe\n" + self._canonical.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, a long one on all cores; see `Tokenizer.encode`."""
        return self.encode_batch([text])[0]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the tokens of the stretches that are UTF-8, and of the single bytes between them.

        The longest stretches that `bytes.decode` takes are text. Normalisation stays within one.
        GPT-NeoX has no tokens for 0xC0, 0xC1 and 0xF5 … 0xFF. See `Tokenizer.encode_bytes`.
        """
        text = data.decode("utf-8", errors="surrogateescape")
        stretches = _ESCAPED.split(text)
        try:
            between = [[self._token_of_escape[c] for c in run] for run in stretches[1::2]]
        except KeyError as error:
            place = len(text[: text.index(error.args[0])].encode(errors="surrogateescape"))
            message = (
                f"bytes must be UTF-8 or have tokens of their own, but byte {place} is "
                f"0x{data[place]:02X}, for which this vocabulary has none; read the text as UTF-8 "
                f"with errors='replace'"
            )
            raise TokenizerError(message) from None
        tokens, *texts = self.encode_batch(stretches[::2])
        for singles, following in zip(between, texts, strict=True):
            tokens += singles + following
        return tokens

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, on all cores; see `Tokenizer.encode_batch`."""
        numbered = (
            (number, piece) for number, text in enumerate(texts) for piece in self._pieces(text)
        )
        tokens: list[list[int]] = [[] for _ in texts]
        for group in groups(numbered):
            encodings = self._library.encode_batch_fast(
                [piece for _, piece in group], add_special_tokens=False
            )
            for (number, _), encoding in zip(group, encodings, strict=True):
                tokens[number] += encoding.ids
        return tokens

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, byte for byte as it was read; see `Tokenizer.save`."""
        with atomic_file(folder / TOKENIZER_FILE) as path:
            path.write_bytes(self._definition.encode())

    def _pieces(self, text: str) -> Sequence[str]:
        """Return `text` in pieces that are encoded each on its own, or refuse it."""
        utf8(text)  # The library's own error for a lone surrogate says neither what nor where.
        if not self._is_cut or len(text) <= PIECE_CHARACTERS:
            return (text,)
        return tuple(pieces(text))

    def _check_that_text_stays_text(self, special: set[int], source: str) -> None:
        """Refuse a tokenizer that loses text, or makes special tokens from it."""
        for token in sorted(special):
            content = self._library.id_to_token(token) or ""
            if special & set(self.encode(content)):
                message = (
                    f"{source}: a special token must not come from text, but encoding "
                    f'{content!r} gives one; mark it `"special": true` in `added_tokens`'
                )
                raise TokenizerError(message)
        if (back := self.decode(self.encode(_PROBE))) != _PROBE:
            message = (
                f"{source}: a tokenizer must give back the text that it encodes (NFC aside), but "
                f"{_PROBE!r} came back as {back!r}"
            )
            raise TokenizerError(message)


def _parse(definition: str, source: str) -> dict[str, Any]:
    """Return the JSON of a tokenizer without what makes its tokens depend on more than the text."""
    try:
        parsed: object = json.loads(definition)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{source}: a tokenizer must be JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise TokenizerError(f"{source}: a tokenizer must be a JSON object")
    fields = cast("dict[str, Any]", parsed)
    for key, wanted in (("model", "BPE"), ("decoder", "ByteLevel")):
        value: Any = fields.get(key)
        found: object = (
            cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else value
        )
        if found != wanted:
            message = (
                f"{source}: a tokenizer must be byte-level BPE, with `{key}` of type {wanted!r}, "
                f"got {found!r}"
            )
            raise TokenizerError(message)
    model = cast("dict[str, Any]", fields["model"]) | {"dropout": None}
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        # Not byte-level BPE; and with a prefix of its own choice, a file ends the whole process,
        # since `tokenizers` (seen with 0.23) cuts merges within characters and aborts.
        if model.get(key):
            message = f"{source}: a byte-level BPE must have no `{key}`, got {model[key]!r}"
            raise TokenizerError(message)
    return fields | {"truncation": None, "padding": None, "model": model}


def _library(canonical: str, source: str) -> tokenizers.Tokenizer:
    """Return the library's tokenizer, which takes special tokens in a text for text."""
    try:
        library = tokenizers.Tokenizer.from_str(canonical)
    except Exception as error:  # The library raises this very class, no subclass of it.
        message = f"{source}: a tokenizer must be one that `tokenizers` can read: {error}"
        raise TokenizerError(message) from error
    library.encode_special_tokens = True
    return library


def _meaning(library: tokenizers.Tokenizer, source: str) -> dict[int, bytes]:
    """Return the bytes of each token, those of special ones included."""
    byte_of = _byte_of_character()
    added = {token: entry.content for token, entry in library.get_added_tokens_decoder().items()}
    meaning = {token: content.encode() for token, content in added.items()}
    for written, token in library.get_vocab(with_added_tokens=False).items():
        if token in added:
            continue
        if token in meaning or token > MAX_TOKEN:
            message = (
                f"{source}: an id must be in 0 … {MAX_TOKEN} and come once, got {token} for "
                f"{written!r}"
            )
            raise TokenizerError(message)
        try:
            meaning[token] = bytes(map(byte_of.__getitem__, written))
        except KeyError:
            message = (
                f"{source}: a token must be written in the byte-level alphabet, got {written!r}"
            )
            raise TokenizerError(message) from None
    missing = _BYTES_OF_UTF8 - {b[0] for b in meaning.values() if len(b) == 1}
    if missing:
        message = (
            f"{source}: a vocabulary must have all single bytes of UTF-8, so that it can express "
            f"any text, but {len(missing)} are missing, {bytes([min(missing)])!r} among them"
        )
        raise TokenizerError(message)
    return meaning


def _check_end_of_text(library: tokenizers.Tokenizer, source: str) -> None:
    """Refuse a tokenizer whose token 0 is not the end of a text."""
    token = library.token_to_id(END_OF_TEXT)
    if token != 0:
        was = "there is none" if token is None else f"it is token {token}"
        message = f"{source}: a tokenizer must have {END_OF_TEXT!r} as token 0, but {was}"
        raise TokenizerError(message)


def _can_cut(parsed: dict[str, Any]) -> bool:
    """Return whether `pieces` knows where this tokenizer cuts a text."""
    normalizer = parsed.get("normalizer")
    if normalizer is not None and normalizer != {"type": "NFC"}:
        return False
    splitter = cast("dict[str, Any]", parsed.get("pre_tokenizer") or {})
    if splitter.get("type") == "ByteLevel":
        return splitter.get("use_regex", True) and not splitter.get("add_prefix_space", True)
    stages = cast("list[dict[str, Any]]", splitter.get("pretokenizers", []))
    ours = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return len(stages) == 2 and stages[0] == ours and stages[1].get("type") == "ByteLevel"


def _byte_of_character() -> dict[str, int]:
    """Return the byte for each character in which a byte-level vocabulary is written.

    Printable bytes of Latin-1 are written as themselves, the others, in order, as the characters
    from U+0100 on. Source: `bytes_to_unicode` in encoder.py of openai/gpt-2.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table |= {chr(0x100 + place): byte for place, byte in enumerate(others)}
    assert table.keys() == set(ByteLevel.alphabet())
    return table
