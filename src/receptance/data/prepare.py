"""Text into a token store."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from receptance.atomic import atomic_folder
from receptance.data.copy_tokens import copy_tokens, token_files
from receptance.data.documents import PIECE_CHARACTERS, Piece, parse_boundaries
from receptance.data.held_out import HeldOut, SplitName, hold_out
from receptance.data.hub import find_datasets
from receptance.data.journal import Journal, plan_sha256, resumable_folder, staged_paths
from receptance.data.manifest import FILE_NAME, Splits, manifest_of, token_dtype, write_manifest
from receptance.data.mask import count_first
from receptance.data.records import RecordFormat
from receptance.data.store import Progress, TokenStore
from receptance.data.survey import Reading, Survey, survey
from receptance.data.writer import SplitWriter
from receptance.errors import DataError, TokenizerError
from receptance.tokenizer import Tokenizer, encoded, load_tokenizer, n_cores, train_bpe

BATCH_CHARACTERS = 1 << 20
"""How much text is tokenized at once; as a Python list its tokens take some ten mebibytes."""

WORKER_BYTES = 4 << 20
"""How much text there must be for each process that tokenizes, to be worth its start."""

PathLike = Path | str


class _Corpus(NamedTuple):
    """All texts, surveyed, and which of them are held out."""

    train: Survey
    valid: Survey | None
    rule: HeldOut

    def assigned_pieces(self) -> Iterator[tuple[SplitName, Piece]]:
        """Yield all documents, piece by piece, each with its split."""
        yield from self.rule.assign(self.train.pieces())
        if self.valid is not None:
            for piece in self.valid.pieces():
                yield "valid", piece

    @property
    def n_bytes(self) -> int:
        return self.train.n_bytes + (self.valid.n_bytes if self.valid else 0)

    @property
    def has_mask(self) -> bool:
        """Whether there is a token that does not count."""
        return self.train.has_mask or (self.valid is not None and self.valid.has_mask)


def prepare(
    files: Sequence[PathLike],
    tokenizer: Tokenizer | PathLike,
    out: PathLike,
    *,
    valid: Sequence[PathLike] = (),
    valid_fraction: float = 0.02,
    separator: str | None = None,
    document_start: str | None = None,
    records: RecordFormat | None = None,
    globs: Sequence[str] = (),
    skip_undecodable: bool = False,
    seed: int = 0,
    replace: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> TokenStore:
    """Tokenize text files into a new token store, and return it opened.

    Where all files are `.idx`, or `.bin` with an `.idx` beside, of Megatron and RWKV-LM, the tokens
    in them are copied as they are, those of `tokenizer`, and documents end where the index says so
    or an `end_of_text` is.

    A text file is one document unless `separator` or `document_start` splits it; of a file
    `*.jsonl` or `*.jsonl.gz` each line is one, and of `*.parquet` or `*.arrow` each row. Blank
    documents are skipped and counted. Every text is read twice, or three times if a tokenizer is
    trained; memory does not grow with the texts. A document of more than half a million characters
    is tokenized in pieces, cut between words. The store appears whole or not at all. What a killed
    process had written of texts is gone on with, where files, tokenizer and options are the same.

    Args:
        files: UTF-8 texts or JSONL, plain or `.gz`, and folders of them, walked in sorted order.
            A file that is named twice is read once. A name `hf://datasets/owner/name` is a data
            set of the Hugging Face hub, downloaded where it is not in the cache.
        tokenizer: A tokenizer; or "bytes", or where one is stored; or "train:4096", which trains
            a byte-level BPE of that many ids on the training documents.
        out: The folder to make.
        valid: Held-out files and folders. Where one is also among `files`, it is held out.
        valid_fraction: Without `valid`, the share of documents to hold out: at least one and not
            all, chosen by a seeded digest of their text; of a single document the end of it.
        separator: The text between two documents of one file.
        document_start: A regular expression that the first line of each document matches.
        records: What of such a line or row is its text; by default told from its keys.
        globs: Which files of folders and data sets to take, such as `*.py`; by default all.
        skip_undecodable: Whether files that are not UTF-8 text are skipped and counted, instead
            of being an error.
        seed: What the choice of held-out documents depends on.
        replace: Whether a token store at `out` is replaced.
        restart: Whether what a killed process had written is thrown away. Of copied tokens
            nothing is gone on with, so there it changes nothing.
        progress: Called with the bytes of text tokenized so far and in all.

    Raises:
        DataError: If there is no text, a file is not text, nothing can be held out, or `out`
            exists, is being prepared by another process, or was begun with something else.
        TokenizerError: If the tokenizer cannot be read or trained, or gives impossible ids.
        ValueError: If an argument is impossible.
        OSError: If a file cannot be read or written.
    """
    if not 0 <= valid_fraction < 1:
        raise ValueError(f"`valid_fraction` must be in [0, 1), got {valid_fraction}")
    out = Path(out)
    _check_out(out, replace=replace)
    reading = Reading(
        boundaries=parse_boundaries(separator, document_start),
        records=records or RecordFormat(),
        globs=tuple(globs),
        skip_undecodable=skip_undecodable,
        excluding={path.resolve() for path in (out, *staged_paths(out))},
    )
    n_trained = _size_to_train(tokenizer)
    if n_trained is None and isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(tokenizer)
    if token_files([Path(path) for path in (*files, *valid)]):
        if isinstance(tokenizer, str | Path) or reading.is_of_text:
            raise ValueError(
                f"for .bin and .idx files such as {str(files[0])!r} `tokenizer` must be the one "
                "that made them, and `separator`, `document_start`, `records`, `globs` and "
                "`skip_undecodable` must not be given"
            )
        choice = {"valid_fraction": valid_fraction, "seed": seed}
        return _copy(files, valid, tokenizer, out, choice, progress, replace=replace)
    corpus = _survey_all(files, valid, valid_fraction, seed, reading)
    if n_trained is not None:
        tokenizer = train_bpe(_training_texts(corpus), n_trained)
    assert not isinstance(tokenizer, str | Path)
    plan = _plan(corpus, tokenizer)
    out.parent.mkdir(parents=True, exist_ok=True)
    with resumable_folder(out, plan, replace=replace, restart=restart) as journal:
        _write_store(corpus, tokenizer, journal, progress)
    return TokenStore.open(out)


def _copy(
    files: Sequence[PathLike],
    valid: Sequence[PathLike],
    tokenizer: Tokenizer,
    out: Path,
    choice: dict[str, Any],
    progress: Progress | None,
    *,
    replace: bool,
) -> TokenStore:
    """Return a new store of tokens that are there already, held out by `choice`."""
    train, held_out = (token_files([Path(each) for each in part]) for part in (files, valid))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out, replace=replace) as staged:
        copy_tokens(train, held_out, tokenizer, staged, **choice, progress=progress)
    return TokenStore.open(out)


def _plan(corpus: _Corpus, tokenizer: Tokenizer) -> str:
    """Return the hash of what decides the bytes of the store; files by name, size and time."""
    files = [
        (os.fsencode(file.resolve()).hex(), stat.st_size, stat.st_mtime_ns)
        for part in (corpus.train, corpus.valid)
        for file, stat in (((each, each.stat()) for each in part.files) if part else ())
    ]
    n_train, reading = len(corpus.train.files), corpus.train.reading
    boundaries = reading.boundaries
    return plan_sha256(
        {
            "files": [files[:n_train], files[n_train:]],
            "boundaries": [boundaries.separator, boundaries.start and boundaries.start.pattern],
            "records": asdict(reading.records),
            "piece": PIECE_CHARACTERS,
            "sources": [corpus.train.sources, corpus.valid.sources if corpus.valid else None],
            "rule": corpus.rule,
            "tokenizer": [tokenizer.name, tokenizer.sha256],
            "vocabulary": [tokenizer.vocab_size, tokenizer.end_of_text],
        }
    )


def _check_out(out: Path, *, replace: bool) -> None:
    """Refuse a destination that exists, cannot be made, or is to be replaced and is no store."""
    if not (out.exists() or out.is_symlink()):
        parent = next(each for each in out.absolute().parents if each.exists())
        # Said now, and not after hours of reading.
        if not parent.is_dir():
            raise DataError(f"{str(parent)!r} must be a folder to hold {str(out)!r}")
        if not os.access(parent, os.W_OK):
            raise PermissionError(f"{str(parent)!r} must be writable to hold {str(out)!r}")
        return
    if not replace:
        raise DataError(
            f"{str(out)!r} must not exist yet, but it does; name another folder, or pass `replace` "
            "(--replace) if it is a token store to be replaced"
        )
    if out.is_symlink() or not out.is_dir():
        raise DataError(f"{str(out)!r} must be a folder to be replaced; name another folder")
    if any(out.iterdir()) and not (out / FILE_NAME).is_file():
        raise DataError(
            f"{str(out)!r} must be a token store to be replaced, but has no {FILE_NAME}; name "
            "another folder, or empty this one"
        )


def _size_to_train(tokenizer: Tokenizer | PathLike) -> int | None:
    """Return the vocabulary that "train:SIZE" asks for, or None for another tokenizer."""
    if not isinstance(tokenizer, str) or not tokenizer.startswith("train:"):
        return None
    size = tokenizer.removeprefix("train:")
    if not (size.isascii() and size.isdigit()):
        raise ValueError(
            f"`tokenizer` must be 'bytes', a path, or 'train:' and a number of ids such as "
            f"'train:4096', got {tokenizer!r}"
        )
    return int(size)


def _survey_all(
    files: Sequence[PathLike],
    valid: Sequence[PathLike],
    valid_fraction: float,
    seed: int,
    reading: Reading,
) -> _Corpus:
    """Read all texts once and decide which are held out."""
    held_out = None
    if valid:
        # Surveyed first: what is held out is passed over when it is found again to be trained on.
        there = find_datasets(valid, held_out=True, globs=reading.globs)
        held_out = survey(there, reading, held_out=True, seed=None)
    chooses = not valid and valid_fraction > 0
    found = survey(
        find_datasets(files, held_out=False, globs=reading.globs),
        reading,
        held_out=False,
        seed=seed if chooses else None,
    )
    rule = hold_out(
        fraction=valid_fraction if chooses else 0.0,
        seed=seed,
        n_documents=found.n_documents,
        n_bytes=found.n_bytes,
        smallest_digest=found.smallest_digest,
        largest_digest=found.largest_digest,
    )
    return _Corpus(found, held_out, rule)


def _training_texts(corpus: _Corpus) -> Iterator[str]:
    for split, piece in corpus.rule.assign(corpus.train.pieces()):
        if split == "train":
            yield piece.text


def _write_store(
    corpus: _Corpus, tokenizer: Tokenizer, journal: Journal, progress: Progress | None
) -> None:
    """Write all files of a store, or what an interrupted process had not yet written of them."""
    folder, last = journal.folder, journal.last
    # The processes that tokenize read it there.
    tokenizer.save(folder)
    n_workers = max(1, min(n_cores(), corpus.n_bytes // WORKER_BYTES))
    dtype = token_dtype(tokenizer.vocab_size)
    with ExitStack() as stack:
        writers: dict[SplitName, SplitWriter] = {}
        for name in ("train", "valid"):
            begun = last.splits[name] if last else None
            has_mask = corpus.has_mask
            writer = SplitWriter(
                folder, name, dtype, tokenizer.end_of_text, begun, has_mask=has_mask
            )
            writers[name] = stack.enter_context(writer)
        n_pieces = last.pieces if last else 0
        batches = _batched(islice(corpus.assigned_pieces(), n_pieces, None))
        texts = ((batch, [piece.text for _, piece in batch]) for batch in batches)
        tokens = stack.enter_context(closing(encoded(texts, tokenizer, folder, n_workers)))
        for batch, arrays in tokens:
            _write_pieces(batch, arrays, tokenizer, writers)
            n_pieces += len(batch)
            journal.note(n_pieces, writers)
            if progress is not None:
                progress(sum(writer.n_bytes for writer in writers.values()), corpus.n_bytes)
    train, valid = writers["train"].manifest(), writers["valid"].manifest()
    if train.bytes + valid.bytes != corpus.n_bytes:
        raise DataError(
            f"the texts must not change while they are read, but had {corpus.n_bytes} bytes and "
            f"then {train.bytes + valid.bytes}; prepare them again once they are at rest"
        )
    sources = corpus.train.sources + (corpus.valid.sources if corpus.valid else [])
    write_manifest(manifest_of(tokenizer, Splits(train=train, valid=valid), sources), folder)


def _batched(
    pieces: Iterable[tuple[SplitName, Piece]],
) -> Iterator[list[tuple[SplitName, Piece]]]:
    """Group pieces into lists that are worth tokenizing together."""
    batch: list[tuple[SplitName, Piece]] = []
    n_characters = 0
    for split, piece in pieces:
        batch.append((split, piece))
        n_characters += len(piece.text)
        if n_characters >= BATCH_CHARACTERS:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch


def _write_pieces(
    batch: list[tuple[SplitName, Piece]],
    arrays: list[Integer[np.ndarray, " _"]],
    tokenizer: Tokenizer,
    writers: dict[SplitName, SplitWriter],
) -> None:
    """Append the tokens of some pieces to their splits."""
    for (split, piece), tokens in zip(batch, arrays, strict=True):
        if tokens.size:
            _check_ids(tokens, tokenizer)
        counted = piece.counted
        counts = None if counted is None else count_first(tokens.tolist(), counted, tokenizer)
        writers[split].append(tokens, len(piece.text.encode()), counts)
        if piece.ends:
            writers[split].end_document()


def _check_ids(tokens: Integer[np.ndarray, " n"], tokenizer: Tokenizer) -> None:
    """Refuse ids that the store could not give back as they are."""
    smallest, largest = int(tokens.min()), int(tokens.max())
    if smallest < 0 or largest >= tokenizer.vocab_size:
        raise TokenizerError(
            f"the tokenizer {tokenizer.name!r} must give ids in 0 … {tokenizer.vocab_size - 1}, "
            f"but gave {smallest} … {largest}"
        )
    if (tokens == tokenizer.end_of_text).any():
        raise TokenizerError(
            f"the tokenizer {tokenizer.name!r} must not give its end_of_text "
            f"{tokenizer.end_of_text} for text, but did"
        )
