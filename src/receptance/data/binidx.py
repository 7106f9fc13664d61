r"""Megatron's `.bin` and `.idx`, in which tokens for RWKV-LM are kept.

X.bin   raw little-endian tokens
X.idx   "MMIDIDX\0\0", u64 version 1, u8 code of the dtype, u64 n, u64 m,
        int32 tokens of each of n sequences, int64 first byte of each,
        int64 first sequence of each document, and n: m numbers

The index is believed once all of it agrees with itself and with the size of the `.bin` file. Tools
have written sizes that did not fit int32, and places that did not fit after a merge.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, Integer

from receptance.errors import DataError

MAGIC = b"MMIDIDX\0\0"
HEADER = struct.Struct("<9sQBQQ")

# Codes 6 and 7 are floating-point numbers, and tools disagree about which.
_DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}

CHUNK = 1 << 20
"""How many tokens, or entries of the index, are looked at once."""


class TokenPiece(NamedTuple):
    """A stretch of one document; most documents are one piece."""

    tokens: Int64[np.ndarray, " n"]
    begins: bool
    """Whether the document begins here."""
    ends: bool
    """Whether the document ends here."""

    @property
    def is_blank_document(self) -> bool:
        """Whether this is a whole document without tokens."""
        return self.begins and self.ends and not self.tokens.size


@dataclass(frozen=True, kw_only=True, eq=False)
class BinIdx:
    """An opened pair of files; `open_binidx` makes one.

    Attributes:
        path: The `.bin` file.
        tokens: All tokens, mapped.
        sizes: Tokens of each sequence, mapped.
        first_bytes: Where each sequence begins, mapped.
        documents: Which sequence each document begins with, and how many there are, mapped.
    """

    path: Path
    tokens: Integer[np.ndarray, " n_tokens"]
    sizes: Int32[np.ndarray, " n"]
    first_bytes: Int64[np.ndarray, " n"]
    documents: Int64[np.ndarray, " m"]

    def pieces(self, *, vocab_size: int, end_of_text: int) -> Iterator[TokenPiece]:
        """Yield the documents, piece by piece.

        A document ends where the index says so, and at each `end_of_text`, which is no part of it.
        What is between two of them, or is empty in the index, is a blank document.

        Args:
            vocab_size: Tokens must be below it.
            end_of_text: The token that separates documents.

        Raises:
            DataError: If a token is not in the vocabulary.
        """
        for first, end in self._document_ranges():
            last, begins = first, True
            if first == end:
                yield TokenPiece(np.empty(0, np.int64), begins=True, ends=True)
            while last < end:
                chunk = self.tokens[last : min(last + CHUNK, end)].astype(np.int64)
                self._check_ids(chunk, last, vocab_size)
                last += len(chunk)
                done = 0
                for place in np.flatnonzero(chunk == end_of_text).tolist():
                    yield TokenPiece(chunk[done:place], begins, ends=True)
                    begins, done = True, place + 1
                if done < len(chunk):
                    yield TokenPiece(chunk[done:], begins, ends=last == end)
                    begins = last == end

    def _document_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield where each document begins and ends, in tokens."""
        itemsize, n = self.tokens.dtype.itemsize, len(self.sizes)
        for at in range(0, len(self.documents) - 1, CHUNK):
            edges = self.documents[at : at + CHUNK + 1].astype(np.int64)
            # Beyond the last sequence, where documents without any may begin, the tokens end.
            places = np.full(len(edges), len(self.tokens), np.int64)
            places[edges < n] = self.first_bytes[edges[edges < n]] // itemsize
            yield from zip(places[:-1].tolist(), places[1:].tolist(), strict=True)

    def _check_ids(self, tokens: Int64[np.ndarray, " n"], first: int, vocab_size: int) -> None:
        wrong = (tokens < 0) | (tokens >= vocab_size)
        if wrong.any():
            place = int(wrong.argmax())
            raise DataError(
                f"{str(self.path)!r} must hold tokens in 0 … {vocab_size - 1}, those of the "
                f"tokenizer, but token {first + place} is {int(tokens[place])}; name the tokenizer "
                "that made the file, or make it again if it is damaged"
            )


def index_of(path: Path) -> Path | None:
    """Return the `.idx` file of a `.bin` or `.idx` file; None for what is neither.

    A `.bin` file is one of these only where an `.idx` file is beside it.
    """
    if path.suffix == ".idx":
        return path
    index = path.with_suffix(".idx")
    return index if path.suffix == ".bin" and index.is_file() else None


def open_binidx(index: Path) -> BinIdx:
    """Return the files that an `.idx` file belongs to, checked against each other.

    Args:
        index: The `.idx` file, with the `.bin` file beside it.

    Raises:
        DataError: If a file is missing, the index is not one, or does not agree with itself or
            with the size of the `.bin` file.
        OSError: If a file cannot be read.
    """
    path = index.with_suffix(".bin")
    for each in (index, path):
        if not each.is_file():
            raise DataError(
                f"{str(each)!r} is missing; a token file is a .bin and an .idx together"
            )
    dtype, n, m = _read_header(index)
    n_bytes = path.stat().st_size
    if n_bytes == 0:
        raise DataError(f"{str(path)!r} must hold tokens, but it is empty; make it again")
    if n_bytes % dtype.itemsize:
        raise DataError(
            f"{str(path)!r} must be of tokens of {dtype.itemsize} bytes, as its index says, but "
            f"has {n_bytes} bytes; copy it again, or name the index that belongs to it"
        )
    at = HEADER.size
    sizes = np.memmap(index, "<i4", "r", at, (n,))
    first_bytes = np.memmap(index, "<i8", "r", at + 4 * n, (n,))
    documents = np.memmap(index, "<i8", "r", at + 12 * n, (m,))
    _check_sequences(index, sizes, first_bytes, dtype.itemsize, n_bytes)
    _check_documents(index, documents, n)
    return BinIdx(
        path=path,
        tokens=np.memmap(path, dtype, "r"),
        sizes=sizes,
        first_bytes=first_bytes,
        documents=documents,
    )


def _read_header(index: Path) -> tuple[np.dtype, int, int]:
    """Return the dtype of tokens, the number of sequences, and of entries about documents."""
    with index.open("rb") as file:
        data = file.read(HEADER.size)
    magic, version, code, n, m = HEADER.unpack(data.ljust(HEADER.size, b"\0"))
    if magic != MAGIC:
        raise DataError(
            f"{str(index)!r} must begin with {MAGIC!r}, the mark of an index of tokens, but begins "
            f"with {data[: len(MAGIC)]!r}; name another file"
        )
    if version != 1:
        raise DataError(f"{str(index)!r} must be of version 1, but is of {version}; make it again")
    if code not in _DTYPES:
        raise DataError(
            f"{str(index)!r} must be of whole numbers, with one of the codes {sorted(_DTYPES)}, "
            f"but has code {code}; make it again as uint16 or int32"
        )
    expected, found = HEADER.size + 12 * n + 8 * m, index.stat().st_size
    if found != expected or n == 0 or m < 2:
        raise DataError(
            f"{str(index)!r} must have {expected} bytes for the {n} sequences and {m} document "
            f"entries that it counts, at least 1 and 2 of them, but has {found}; copy or make it "
            "again"
        )
    return np.dtype(_DTYPES[code]), n, m


def _check_sequences(
    index: Path,
    sizes: Int32[np.ndarray, " n"],
    first_bytes: Int64[np.ndarray, " n"],
    itemsize: int,
    n_bytes: int,
) -> None:
    """Raise unless the sequences lie one after the other and fill the `.bin` file."""
    total = 0
    for at in range(0, len(sizes), CHUNK):
        chunk = sizes[at : at + CHUNK].astype(np.int64)
        if (chunk < 0).any():
            place = int((chunk < 0).argmax())
            raise DataError(
                f"{str(index)!r} must give each sequence a size, but that of sequence {at + place} "
                f"is {int(chunk[place])}: one of 2^31 tokens or more does not fit the format; make "
                "the file again with shorter documents"
            )
        # A chunk has less than 2^51 tokens, and all before it less than the file has bytes.
        ends = total + np.cumsum(chunk) * itemsize
        begins = ends - chunk * itemsize
        wrong = first_bytes[at : at + CHUNK] != begins
        if wrong.any():
            place = int(wrong.argmax())
            raise DataError(
                f"{str(index)!r} must have its sequences one after the other, but sequence "
                f"{at + place} is at byte {int(first_bytes[at + place])} instead of "
                f"{int(begins[place])}: the places overflow in some tools that merge files; merge "
                "them with another, or prepare the parts together"
            )
        total = int(ends[-1])
        if total > n_bytes:
            break
    if total != n_bytes:
        raise DataError(
            f"{str(index.with_suffix('.bin'))!r} must have the {total} bytes that its index counts"
            f"{' at least' if total > n_bytes else ''}, but has {n_bytes}; copy both files again"
        )


def _check_documents(index: Path, documents: Int64[np.ndarray, " m"], n: int) -> None:
    """Raise unless the documents begin in order, from the first sequence to the last."""
    first, last = int(documents[0]), int(documents[-1])
    # A chunk and the entry that follows it.
    is_sorted = all(
        (np.diff(documents[at : at + CHUNK + 1]) >= 0).all()
        for at in range(0, len(documents), CHUNK)
    )
    if first != 0 or last != n or not is_sorted:
        order = "" if is_sorted else ", not in order"
        raise DataError(
            f"{str(index)!r} must divide its {n} sequences into documents, from 0 to {n} in order, "
            f"but its entries go from {first} to {last}{order}; make it again"
        )
