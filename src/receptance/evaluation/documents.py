"""What a model is scored by: documents as tokens, with the bytes of text that they stand for."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from receptance.data import Boundaries, RecordFormat, Split, read_file
from receptance.errors import DataError
from receptance.evaluation.words import WordCounter
from receptance.tokenizer import Tokenizer

BLOCK_BYTES = 1024
"""What is drawn together for an interval, in bytes so that it is the same for every tokenizer; of
as many are about 256 tokens, far more than one token tells of the next ones."""


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
) -> list[Document]:
    """Return the documents of files; held in memory are four bytes a token.

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
    documents: list[Document] = []
    left = max_tokens
    for file in files:
        n_before = len(documents)
        draft = _Draft(tokenizer)
        for piece in read_file(file, boundaries or Boundaries(), records):
            if piece.is_blank_document:
                continue
            draft.add(piece.text, left)
            if piece.ends or draft.n_left == 0:
                document = draft.end()
                documents.append(document)
                left = None if left is None else left - len(document.tokens)
                draft = _Draft(tokenizer)
            if left == 0:
                return documents
        if len(documents) == n_before:
            raise DataError(
                f"a text to score a model by must not be empty, but {str(file)!r} is, or is blank"
            )
    return documents


class _Draft:
    """A document of which some pieces were read."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens, self._n_bytes = array("I"), 0
        self._words = WordCounter(BLOCK_BYTES)
        self.n_left: int | None = None
        """How many more tokens there may be."""

    def add(self, text: str, max_tokens: int | None) -> None:
        """Go on with the next piece, cut where the document would have more than `max_tokens`."""
        new = self._tokenizer.encode(text)
        room = len(new) if max_tokens is None else max_tokens - len(self._tokens)
        if len(new) > room:
            new = new[:room]
            data = self._tokenizer.decode_bytes(new)
            self._n_bytes += len(data)
            self._words.add(data.decode(errors="ignore"))  # the cut may be within a character
        else:
            self._n_bytes += len(text.encode())
            self._words.add(text)
        self._tokens.extend(new)
        self.n_left = None if max_tokens is None else room - len(new)

    def end(self) -> Document:
        """Return the document, with its end if there is room for it."""
        if self.n_left != 0:  # else its end is one token too many
            self._tokens.append(self._tokenizer.end_of_text)
        tokens = np.frombuffer(self._tokens, dtype=np.uint32)
        return Document(tokens, self._n_bytes, words=self._words.counts(self._n_bytes))
