"""JSONL: files of one record a line, read as documents."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from receptance.data.documents import (
    PIECE_CHARACTERS,
    NotTextError,
    Piece,
    place_to_cut,
    read_blocks,
)
from receptance.data.records import Part, RecordFormat, WrongRecordError
from receptance.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz")

MAX_LINE_BYTES = 64 << 20
"""A line is parsed as a whole, so this bounds the memory."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_jsonl(path: Path, records: RecordFormat) -> Iterator[Piece]:
    """Yield the documents of a JSONL file, piece by piece; each part begins a piece.

    Lines end with a line feed, with or without a carriage return. A byte-order mark is passed
    over; an empty line is a blank document.

    Args:
        path: The file; one whose name ends in `.gz` is decompressed.
        records: What of a line is its text.

    Raises:
        NotTextError: If a line is not UTF-8.
        DataError: If a line is no record, or a `.gz` file is damaged.
        OSError: If the file cannot be read.
    """
    for number, line in _lines(path):
        if not line.strip():
            yield Piece("", begins=True, ends=True)
            continue
        try:
            parts = records.parts(_parse(path, number, line))
        except WrongRecordError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        yield from record_pieces(parts)


def record_pieces(parts: Sequence[Part]) -> Iterator[Piece]:
    """Yield the pieces of a record's document: at least one for each part.

    Args:
        parts: Of one record.
    """
    identity = "" if len(parts) == 1 else _identity(parts)
    for index, part in enumerate(parts):
        rest, begins, counted = part.text, index == 0, part.counted
        is_last = index == len(parts) - 1
        while len(rest) > PIECE_CHARACTERS:
            cut = place_to_cut(rest)
            yield Piece(rest[:cut], begins, False, identity if begins else "", counted)
            counted = None if counted is None else max(0, counted - len(rest[:cut].encode()))
            rest, begins = rest[cut:], False
        yield Piece(rest, begins, is_last, identity if begins else "", counted)


def _identity(parts: Sequence[Part]) -> str:
    """Return a digest of all parts: many a set has the same first part everywhere."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.text.encode() + b"\0")
    return digest.hexdigest()


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers, from 1 on."""
    number, waiting, n_waiting = 1, [], 0
    for block in read_blocks(path):
        *complete, rest = block.split(b"\n")
        for end in complete:
            line = b"".join([*waiting, end])
            yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            number, waiting, n_waiting = number + 1, [], 0
        waiting.append(rest)
        n_waiting += len(rest)
        if n_waiting > MAX_LINE_BYTES:
            raise DataError(
                f"{path}:{number}: a line must have at most {MAX_LINE_BYTES} bytes, but has more; "
                "prepare so long a text as a file of its own, such as .txt"
            )
    line = b"".join(waiting)
    line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    if line:
        yield number, line


def _parse(path: Path, number: int, line: bytes) -> Any:
    """Return what a line holds."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise NotTextError(
            f"{path}:{number}: the line must be UTF-8, but byte {error.start} is not "
            f"({error.reason}); convert the file or leave it out (`data prepare` does so with "
            "--skip-undecodable)"
        ) from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}:{number}: the line must be one JSON object, but is not JSON ({error})"
        ) from None
