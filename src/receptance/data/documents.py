"""Text files, read as documents, whatever their size.

A file is one document, or is split into several at a separator or at lines that begin one. Long
documents come in pieces, so that memory stays bounded by a piece and not by a file.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

from receptance.errors import DataError

READ_BYTES = 1 << 20

PIECE_CHARACTERS = 1 << 19
"""How many characters of one document are held at once."""


class NotTextError(DataError):
    """A file is not plain UTF-8 text."""


class Piece(NamedTuple):
    """A stretch of one document; most documents are one piece."""

    text: str
    begins: bool
    """Whether the document begins here."""
    ends: bool
    """Whether the document ends here."""
    identity: str = ""
    """Of a document that was given in parts, on its first piece: what tells it from others."""
    counted: int | None = None
    """How many of its first bytes a model is to be trained to predict; None for all."""

    @property
    def is_blank_document(self) -> bool:
        """Whether this is a whole document without anything but white space."""
        return self.begins and self.ends and (not self.text or self.text.isspace())

    @property
    def document_key(self) -> str:
        """Of the first piece of a document: what decides whether it is held out."""
        return self.identity or self.text


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """Where one document of a file ends and the next begins; by default nowhere.

    Attributes:
        separator: The text between two documents, which belongs to neither.
        start: What the first line of every document matches, from the line's beginning and
            without its line end; the line belongs to the document.
    """

    separator: str | None = None
    start: re.Pattern[str] | None = None

    def find(self, text: str, *, is_last: bool, is_mid_line: bool) -> Iterator[tuple[int, int]]:
        """Return, in order, where documents end in `text` and where the next ones begin.

        Args:
            text: What has been read of a file and not yet been given out.
            is_last: Whether the file ends with `text`.
            is_mid_line: Whether `text` begins within a line.
        """
        if self.separator is not None:
            return _find_separators(text, self.separator)
        if self.start is not None:
            return _find_first_lines(text, self.start, is_last=is_last, is_mid_line=is_mid_line)
        return iter(())

    @property
    def overlap(self) -> int:
        """How many characters at the end of a text may be the beginning of a separator."""
        return len(self.separator) - 1 if self.separator else 0


def parse_boundaries(separator: str | None, document_start: str | None) -> Boundaries:
    """Return the boundaries that two options ask for.

    Raises:
        ValueError: If both are given, the separator is empty, or the pattern is not one.
    """
    if separator is not None and document_start is not None:
        raise ValueError(
            "one of `separator` and `document_start` must be given, not both: a document ends "
            f"either at {separator!r} or before a line like {document_start!r}"
        )
    if separator == "":
        raise ValueError(f"`separator` must be a text of at least one character, got {separator!r}")
    if document_start is None:
        return Boundaries(separator=separator)
    try:
        return Boundaries(start=re.compile(document_start, re.MULTILINE))
    except re.error as error:
        raise ValueError(
            f"`document_start` must be a regular expression, got {document_start!r}: {error}"
        ) from None


def read_pieces(path: Path, boundaries: Boundaries) -> Iterator[Piece]:
    """Yield the documents of a text file, piece by piece.

    The text is exactly the file's: no byte-order mark, line end or space is changed. A document of
    more than 524,288 characters comes in pieces, cut before a space wherever there is one.

    Args:
        path: A UTF-8 text file; one whose name ends in `.gz` is decompressed.
        boundaries: Where documents end. What is blank between them is a document too, for the
            caller to count.

    Raises:
        NotTextError: If a byte is not UTF-8 or is zero.
        DataError: If a `.gz` file is damaged.
        OSError: If the file cannot be read.
    """
    cutter = _Cutter(boundaries)
    for text in _decoded(path):
        yield from cutter.feed(text, is_last=False)
    yield from cutter.feed("", is_last=True)


class _Cutter:
    """Turns the text of a file, as it arrives, into pieces of documents."""

    def __init__(self, boundaries: Boundaries) -> None:
        self._boundaries = boundaries
        self._rest = ""
        self._begins = True
        self._is_mid_line = False

    def feed(self, text: str, *, is_last: bool) -> Iterator[Piece]:
        """Yield the pieces that are complete once `text` has been read."""
        rest = self._rest + text
        done = 0
        ends = self._boundaries.find(rest, is_last=is_last, is_mid_line=self._is_mid_line)
        for end, start in ends:
            # A document's own first line does not end the document.
            if end == start == done and self._begins:
                continue
            yield self._piece(rest[done:end], ends=True)
            done = start
        rest = rest[done:]
        while len(rest) - self._boundaries.overlap > PIECE_CHARACTERS:
            cut = place_to_cut(rest)
            yield self._piece(rest[:cut], ends=False)
            rest = rest[cut:]
        if is_last:
            yield self._piece(rest, ends=True)
        self._rest = rest

    def _piece(self, text: str, *, ends: bool) -> Piece:
        piece = Piece(text, self._begins, ends)
        self._begins = ends
        self._is_mid_line = not ends and not text.endswith("\n")
        return piece


def place_to_cut(text: str) -> int:
    """Return where to cut the first piece off a text that is longer than one.

    Best before a lone space between two letters: there the tokenizers in use have a token
    boundary anyway, so the tokens are those of the uncut text. Else after a line end, or anywhere.
    """
    space = text.rfind(" ", 0, PIECE_CHARACTERS)
    while space > 0:
        if text[space - 1].isalpha() and text[space + 1].isalpha():
            return space
        space = text.rfind(" ", 0, space)
    return text.rfind("\n", 0, PIECE_CHARACTERS) + 1 or PIECE_CHARACTERS


def _find_separators(text: str, separator: str) -> Iterator[tuple[int, int]]:
    end = text.find(separator)
    while end >= 0:
        start = end + len(separator)
        yield end, start
        end = text.find(separator, start)


def _find_first_lines(
    text: str, pattern: re.Pattern[str], *, is_last: bool, is_mid_line: bool
) -> Iterator[tuple[int, int]]:
    """Yield where a line matches; a line that may go on is left for later."""
    begin = text.find("\n") + 1 if is_mid_line else 0
    if is_mid_line and begin == 0:
        return
    while begin < len(text):
        end = text.find("\n", begin)
        if end < 0 and not is_last:
            return
        line_end = len(text) if end < 0 else end
        content_end = line_end - text.endswith("\r", begin, line_end)
        if pattern.match(text, begin, content_end):
            yield begin, begin
        begin = line_end + 1


def _decoded(path: Path) -> Iterator[str]:
    """Yield the text of a file, about a mebibyte at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    offset = 0
    for data in read_blocks(path):
        # Up to three bytes of a character may wait in the decoder for the rest of it.
        n_waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place, reason = offset - n_waiting + error.start, f"is not UTF-8 ({error.reason})"
            raise _not_text(path, place, reason) from None
        if "\0" in text:
            raise _not_text(path, offset + data.index(0), "is zero, which no text has")
        offset += len(data)
        yield text


def _not_text(path: Path, place: int, reason: str) -> NotTextError:
    return NotTextError(
        f"{str(path)!r} must be plain UTF-8 text, but byte {place} {reason}; "
        "convert the file or leave it out (`data prepare` does so with --skip-undecodable)"
    )


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, about a mebibyte at a time, the last block being empty.

    Args:
        path: Of the file; one whose name ends in `.gz` is decompressed.

    Raises:
        DataError: If a `.gz` file is damaged.
        OSError: If the file cannot be read.
    """
    open_file = gzip.open if path.suffix == ".gz" else open
    with cast("IO[bytes]", open_file(path, "rb")) as file:
        data = b"start"
        while data:
            try:
                data = file.read(READ_BYTES)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise DataError(
                    f"{str(path)!r} must be a whole gzip file, but it is damaged ({error}); "
                    "fetch it again, or leave it out"
                ) from error
            yield data
