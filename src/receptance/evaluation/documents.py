"""What a model is scored by: documents as tokens, with the bytes of text that they stand for."""

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from receptance.data import Boundaries, RecordFormat, Split, read_file
from receptance.errors import DataError
from receptance.evaluation.words import WordCounter
from receptance.tokenizer import Tokenizer

BLOCK_BYTES = 1024
"""What is drawn together for an interval, in bytes so that it is the same for every tokenizer; of
as many are about 256 tokens, far more than one token tells of the next ones."""

END_MARK = b"\xff"
"""Stands for the end of a document in the hash of a text; UTF-8 has no such byte."""


class Document(NamedTuple):
    """A text, each of whose tokens is predicted from all before it."""

    tokens: Integer[np.ndarray, " n"]
    """Its tokens, and the one that ends it unless the text was cut."""
    n_bytes: int
    """The bytes of UTF-8 that they stand for; where there is a mask, those that count."""
    mask: UInt8[np.ndarray, " n"] | None = None
    """For each token 1 if the score counts it; None where it counts all."""
    words: Integer[np.ndarray, " blocks"] | None = None
    """How many words there are in each `BLOCK_BYTES` of its text; None where that is unknown."""

    @property
    def n_counted(self) -> int:
        """How many tokens count."""
        return len(self.tokens) if self.mask is None else int(self.mask.sum(dtype=np.int64))


class Text(Sequence[Document]):
    """The documents of files, as numbers: four bytes a token, and 24 a document and 4 a block."""

    def __init__(
        self, tokens: array, ends: array, n_bytes: array, words: array, sha256: str
    ) -> None:
        """Take what was read.

        Args:
            tokens: Of all documents, one after another.
            ends: Of each document the first token that is behind it.
            n_bytes: Of each document.
            words: Of each block of each document.
            sha256: Of what is predicted: the bytes of the documents, and `END_MARK` for the end of
                each unless that was cut.
        """
        self.sha256 = sha256
        self._tokens = np.frombuffer(tokens, dtype=np.uint32)
        self._ends = np.frombuffer(ends, dtype=np.int64)
        self._n_bytes = np.frombuffer(n_bytes, dtype=np.int64)
        self._words = np.frombuffer(words, dtype=np.uint32)
        self._word_ends = np.cumsum(n_blocks(self._n_bytes))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...

    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        """Return a document, whose arrays are parts of those of all, or several."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        tokens, words = (
            numbers[int(ends[at - 1]) if at else 0 : int(ends[at])]
            for numbers, ends in ((self._tokens, self._ends), (self._words, self._word_ends))
        )
        return Document(tokens, int(self._n_bytes[at]), words=words)


def n_blocks(n_bytes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return how many blocks documents of so many bytes have; at least one each."""
    return np.maximum(1, -(-n_bytes // BLOCK_BYTES))


def held_out_documents(
    split: Split, max_tokens: int | None = None, *, tokenizer: Tokenizer | None = None
) -> list[Document]:
    """Return the documents of a split, whole, mapped from its file.

    Args:
        split: Of a token store.
        max_tokens: Documents are taken from the first on until there are as many; None for all.
        tokenizer: Of the store, which tells how many bytes count; needed where there is a mask.

    Raises:
        ValueError: If the split has a mask and there is no tokenizer.
        DataError: If there is no document.
    """
    if split.n_documents == 0:
        raise DataError(
            f"{str(split.path)!r} must hold documents to score a model by, but it holds none; "
            "prepare the store with held-out text"
        )
    begins = split.documents[:, 0].astype(np.int64)
    ends = np.append(begins[1:], split.n_tokens)
    if max_tokens is not None:
        ends = ends[: int(np.searchsorted(ends, max_tokens)) + 1]
    if split.mask is not None:
        return [
            _masked(split, split.mask, slice(begin, end), tokenizer)
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=False)
        ]
    return [
        Document(split.tokens[begin:end], int(n_bytes))
        for begin, end, n_bytes in zip(begins, ends, split.documents[:, 1], strict=False)
    ]


def _masked(
    split: Split, mask: UInt8[np.ndarray, " n"], part: slice, tokenizer: Tokenizer | None
) -> Document:
    """Return a document of which some tokens count."""
    if tokenizer is None:
        raise ValueError(f"`tokenizer` must be given, for {str(split.path)!r} has a mask; got None")
    tokens, counted = split.tokens[part], mask[part]
    # All but the one that ends it, which stands for no text.
    said = tokens[:-1][counted[:-1] == 1]
    return Document(tokens, len(tokenizer.decode_bytes(said.tolist())), counted)


def read_documents(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    max_tokens: int | None = None,
    *,
    boundaries: Boundaries | None = None,
    text_field: str | None = None,
) -> Text:
    """Return the documents of files, each of which is read once, so that it may be a pipe.

    A file is a document, unless `boundaries` split it. Of one of records, JSONL or a table, each
    record is one, with all that it says. Blank documents are left out.

    Args:
        files: Of UTF-8 text or of records, told by the name as `data prepare` does; those whose
            names end in `.gz` are decompressed.
        tokenizer: Makes the tokens.
        max_tokens: How many tokens are read; the document that has more is cut there, so that its
            end is not predicted, and those after it are left out. None reads all.
        boundaries: Where documents of a text end; None for the files' ends.
        text_field: Of records: the field of the text; None where their fields tell.

    Raises:
        DataError: If a file has no text, is no plain UTF-8 text, or a record is wrong.
        ReceptanceError: If the extra that reads a table is not installed.
        OSError: If a file cannot be read.
    """
    records = RecordFormat(text_field=text_field, loss_on="all")
    draft = _Draft(tokenizer, max_tokens)
    for file in files:
        n_before = draft.n_documents
        for piece in read_file(file, boundaries or Boundaries(), records):
            if piece.is_blank_document:
                continue
            draft.add(piece.text)
            if piece.ends or draft.is_full:
                draft.end_document()
            if draft.is_full:
                return draft.text()
        if draft.n_documents == n_before:
            raise DataError(
                f"a text to score a model by must not be empty, but {str(file)!r} is, or is blank"
            )
    return draft.text()


class _Draft:
    """A text of which some pieces were read."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int | None) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._tokens, self._ends, self._n_bytes, self._words = map(array, "IqqI")
        self._hash = hashlib.sha256()
        self._begin_document()

    def _begin_document(self) -> None:
        self._document_bytes = 0
        self._counter = WordCounter(BLOCK_BYTES)

    @property
    def n_documents(self) -> int:
        return len(self._ends)

    @property
    def is_full(self) -> bool:
        return len(self._tokens) == self._max_tokens

    def add(self, text: str) -> None:
        """Go on with a document's next piece, cut where there would be more than `max_tokens`."""
        new, data = self._tokenizer.encode(text), text.encode()
        if self._max_tokens is not None and len(self._tokens) + len(new) > self._max_tokens:
            new = new[: self._max_tokens - len(self._tokens)]
            data = self._tokenizer.decode_bytes(new)
            text = data.decode(errors="ignore")  # the cut may be within a character
        self._tokens.extend(new)
        self._document_bytes += len(data)
        self._hash.update(data)
        self._counter.add(text)

    def end_document(self) -> None:
        """End a document, with a token for it if there is room."""
        if not self.is_full:
            self._tokens.append(self._tokenizer.end_of_text)
            self._hash.update(END_MARK)
        self._ends.append(len(self._tokens))
        self._n_bytes.append(self._document_bytes)
        self._words.frombytes(self._counter.counts(self._document_bytes).tobytes())
        self._begin_document()

    def text(self) -> Text:
        """Return what was read."""
        return Text(self._tokens, self._ends, self._n_bytes, self._words, self._hash.hexdigest())
