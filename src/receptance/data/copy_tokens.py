"""Tokens that others have made into a token store, as they are."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from receptance.data.binidx import BinIdx, TokenPiece, index_of, open_binidx
from receptance.data.held_out import SplitName, hold_out
from receptance.data.manifest import Source, Splits, manifest_of, token_dtype, write_manifest
from receptance.data.store import Progress
from receptance.data.writer import SplitWriter
from receptance.errors import DataError, TokenizerError
from receptance.tokenizer import Tokenizer


class _Found(NamedTuple):
    """What some files hold."""

    files: list[BinIdx]
    sources: list[Source]
    n_tokens: int
    smallest_digest: int
    largest_digest: int

    @property
    def n_documents(self) -> int:
        return sum(source.documents for source in self.sources)

    @property
    def n_bytes(self) -> int:
        return sum(source.bytes for source in self.sources)


def token_files(paths: Sequence[Path]) -> list[Path]:
    """Return the index of each `.bin` or `.idx` file, once; none if all are something else.

    Raises:
        ValueError: If only some are.
    """
    indices = {path: index_of(path) for path in paths}
    found = [index for index in indices.values() if index is not None]
    if found and len(found) < len(indices):
        others = [str(path) for path, index in indices.items() if index is None]
        raise ValueError(
            f"`files` and `valid` must be all text or all .bin and .idx, got {str(found[0])!r} and "
            f"{others[0]!r}; prepare a store of each"
        )
    return list(dict.fromkeys(index.resolve() for index in found))


def copy_tokens(
    train: Sequence[Path],
    valid: Sequence[Path],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    valid_fraction: float,
    seed: int,
    progress: Progress | None,
) -> None:
    """Write all files of a store into an empty folder, from `.idx` files and what is beside them.

    They are read twice. Bytes of text are those that the tokens stand for.

    Args:
        train: The `.idx` files to train on; those that are also in `valid` are left out.
        valid: Held-out ones.
        tokenizer: What the tokens are of.
        folder: Where the store is written.
        valid_fraction: Without `valid`, the share of documents to hold out, chosen by a seeded
            digest of their tokens; of a single document its end.
        seed: What the choice depends on.
        progress: Called with the bytes of text copied so far and in all.

    Raises:
        DataError: If a file is damaged, or has tokens that the tokenizer has not; or if there are
            no tokens, or none can be held out.
        TokenizerError: If the tokenizer takes tokens of its own for bytes of no text.
        OSError: If a file cannot be read or written.
    """
    text_bytes = _text_bytes(tokenizer)
    held_out = _survey(valid, tokenizer, text_bytes, is_held_out=True, seed=seed)
    found = _survey(
        [path for path in train if path not in valid],
        tokenizer,
        text_bytes,
        is_held_out=False,
        seed=seed,
    )
    if not found.n_documents or (valid and not held_out.n_documents):
        names = [str(path) for path in (valid if found.n_documents else train)]
        raise DataError(f"the files must hold some tokens, but {names} hold none; name other files")
    n_bytes = found.n_bytes + held_out.n_bytes
    dtype = token_dtype(tokenizer.vocab_size)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(SplitWriter(folder, name, dtype, tokenizer.end_of_text))
            for name in ("train", "valid")
        }
        assigned = _assign(found, tokenizer, 0.0 if valid else valid_fraction, seed)
        given = (("valid", piece) for piece in _pieces(held_out.files, tokenizer))
        for split, piece in chain(assigned, given):
            _write(writers[split], piece, text_bytes)
            if progress is not None:
                progress(sum(writer.n_bytes for writer in writers.values()), n_bytes)
    tokenizer.save(folder)
    splits = Splits(train=writers["train"].manifest(), valid=writers["valid"].manifest())
    write_manifest(manifest_of(tokenizer, splits, found.sources + held_out.sources), folder)


def _text_bytes(tokenizer: Tokenizer) -> Int64[np.ndarray, " vocab_size"]:
    """Return for how many bytes of text each token stands."""
    sizes = [len(tokenizer.decode_bytes([token])) for token in range(tokenizer.vocab_size)]
    if sizes[tokenizer.end_of_text]:
        raise TokenizerError(
            f"the end_of_text {tokenizer.end_of_text} of the tokenizer {tokenizer.name!r} must "
            f"stand for no text, but stands for {sizes[tokenizer.end_of_text]} bytes"
        )
    return np.array(sizes, np.int64)


def _survey(
    indices: Sequence[Path],
    tokenizer: Tokenizer,
    text_bytes: Int64[np.ndarray, " vocab_size"],
    *,
    is_held_out: bool,
    seed: int,
) -> _Found:
    """Read every token once, and return what is there."""
    found = _Found([], [], 0, 1 << 64, -1)
    for index in indices:
        file = open_binidx(index)
        n_documents = n_bytes = n_blank = 0
        n_tokens, smallest, largest = found[2:]
        for piece in _pieces([file], tokenizer, blank=True):
            if piece.is_blank_document:
                n_blank += 1
                continue
            n_documents += piece.ends
            n_tokens += piece.tokens.size
            n_bytes += int(text_bytes[piece.tokens].sum())
            if piece.begins:
                number = _digest(piece, seed)
                smallest, largest = min(smallest, number), max(largest, number)
        source = Source(
            # A file name need not be UTF-8, but JSON is.
            path=os.fsencode(index).decode("utf-8", "replace"),
            held_out=is_held_out,
            files=1,
            documents=n_documents,
            bytes=n_bytes,
            blank_documents=n_blank,
            undecodable_files=0,
        )
        files, sources = [*found.files, file], [*found.sources, source]
        found = _Found(files, sources, n_tokens, smallest, largest)
    return found


def _pieces(
    files: Sequence[BinIdx], tokenizer: Tokenizer, *, blank: bool = False
) -> Iterator[TokenPiece]:
    """Yield the documents of all files, piece by piece, blank ones only if they are wanted."""
    for file in files:
        for piece in file.pieces(
            vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text
        ):
            if blank or not piece.is_blank_document:
                yield piece


def _assign(
    found: _Found, tokenizer: Tokenizer, fraction: float, seed: int
) -> Iterator[tuple[SplitName, TokenPiece]]:
    """Yield the documents to train on, piece by piece, each with its split."""
    if fraction and found.n_documents == 1:
        yield from _cut_tail(found, tokenizer, fraction)
        return
    rule = hold_out(
        fraction=fraction,
        seed=seed,
        n_documents=found.n_documents,
        n_bytes=found.n_bytes,
        smallest_digest=found.smallest_digest,
        largest_digest=found.largest_digest,
    )
    split: SplitName = "train"
    for piece in _pieces(found.files, tokenizer):
        if piece.begins:
            split = "valid" if rule.below and _digest(piece, seed) < rule.below else "train"
        yield split, piece


def _cut_tail(
    found: _Found, tokenizer: Tokenizer, fraction: float
) -> Iterator[tuple[SplitName, TokenPiece]]:
    """Yield the one document as two: all but its last tokens, and those."""
    if found.n_tokens < 2:
        raise DataError(
            f"the one document has {found.n_tokens} token, too few to hold out its end; give "
            "held-out files with `valid` (--valid), or hold out nothing with valid_fraction=0 "
            "(--valid-fraction 0)"
        )
    n_tail = min(max(round(found.n_tokens * fraction), 1), found.n_tokens - 1)
    cut, done = found.n_tokens - n_tail, 0
    for piece in _pieces(found.files, tokenizer):
        here = cut - done
        done += piece.tokens.size
        if here > 0:
            head = piece.tokens[:here]
            yield "train", TokenPiece(head, piece.begins, ends=done >= cut)
        if done > cut:
            tail = piece.tokens[max(here, 0) :]
            yield "valid", TokenPiece(tail, here >= 0, ends=piece.ends)


def _digest(piece: TokenPiece, seed: int) -> int:
    """Return 64 bits that depend on all tokens of a piece and on the seed, and not on dtypes."""
    data = piece.tokens.astype("<u8").tobytes()
    keyed = hashlib.blake2b(data, digest_size=8, key=str(seed).encode()[:64])
    return int.from_bytes(keyed.digest(), "little")


def _write(
    writer: SplitWriter, piece: TokenPiece, text_bytes: Int64[np.ndarray, " vocab_size"]
) -> None:
    writer.append(piece.tokens, int(text_bytes[piece.tokens].sum()))
    if piece.ends:
        writer.end_document()
