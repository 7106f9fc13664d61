"""What a model is scored by: documents as tokens, with the bytes of text that they stand for."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from receptance.data import Boundaries, Split, read_pieces
from receptance.errors import DataError
from receptance.tokenizer import Tokenizer


class Document(NamedTuple):
    """A text, each of whose tokens is predicted from all before it."""

    tokens: Integer[np.ndarray, " n"]
    """Its tokens, and the one that ends it unless the text was cut."""
    n_bytes: int
    """The bytes of UTF-8 that they stand for; where there is a mask, those that count."""
    mask: UInt8[np.ndarray, " n"] | None = None
    """For each token 1 if the score counts it; None where it counts all."""

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
    files: Sequence[Path], tokenizer: Tokenizer, max_tokens: int | None = None
) -> list[Document]:
    """Return text files as documents, one a file; held in memory are four bytes a token.

    Args:
        files: Of UTF-8 text; those whose names end in `.gz` are decompressed.
        tokenizer: Makes the tokens.
        max_tokens: How many tokens are read; the file that has more is cut there, so that its end
            is not predicted, and the files after it are left out. None reads all.

    Raises:
        DataError: If a file is empty or no plain UTF-8 text.
        OSError: If a file cannot be read.
    """
    documents: list[Document] = []
    left = max_tokens
    for file in files:
        document = _read(file, tokenizer, left)
        documents.append(document)
        left = None if left is None else left - len(document.tokens)
        if left == 0:
            break
    return documents


def _read(file: Path, tokenizer: Tokenizer, max_tokens: int | None) -> Document:
    """Return the document of a file; cut where it has more than `max_tokens`."""
    tokens, n_bytes = array("I"), 0
    for piece in read_pieces(file, Boundaries()):
        new = tokenizer.encode(piece.text)
        room = len(new) if max_tokens is None else max_tokens - len(tokens)
        if len(new) > room:
            cut = new[:room]
            tokens.extend(cut)
            n_bytes += len(tokenizer.decode_bytes(cut))
            break
        tokens.extend(new)
        n_bytes += len(piece.text.encode())
    else:
        if len(tokens) != max_tokens:  # else its end is one token too many
            tokens.append(tokenizer.end_of_text)
    if n_bytes == 0:
        raise DataError(f"a text to score a model by must not be empty, but {str(file)!r} is")
    return Document(np.frombuffer(tokens, dtype=np.uint32), n_bytes)
