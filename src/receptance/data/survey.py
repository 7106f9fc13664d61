"""A first look at the texts to prepare: what is there, and whether all of it can be read."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from receptance.data.documents import Boundaries, NotTextError, Piece
from receptance.data.files import find_files
from receptance.data.held_out import digest
from receptance.data.hub import HubFiles
from receptance.data.manifest import Source
from receptance.data.readers import read_file
from receptance.data.records import RecordFormat
from receptance.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files become documents.

    Attributes:
        boundaries: Where documents of a text file end.
        records: How the lines of a JSONL file become documents.
        globs: Which files of a folder are taken.
        skip_undecodable: Whether a file that is not UTF-8 text is passed over.
        excluding: Resolved paths that are never read.
    """

    boundaries: Boundaries
    records: RecordFormat
    globs: tuple[str, ...]
    skip_undecodable: bool
    excluding: set[Path]

    @property
    def is_of_text(self) -> bool:
        """Whether something was chosen that only texts have."""
        of_records = self.records != RecordFormat()
        of_files = self.globs or self.skip_undecodable or self.boundaries != Boundaries()
        return bool(of_records or of_files)


@dataclass(kw_only=True)
class Survey:
    """What some sources hold.

    Attributes:
        reading: How files become documents.
        sources: One line each.
        files: The files with text, in order.
        smallest_digest: The smallest digest of a document.
        largest_digest: The largest.
        has_mask: Whether some text is not to be predicted.
    """

    reading: Reading
    sources: list[Source] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    smallest_digest: int = 1 << 64
    largest_digest: int = -1
    has_mask: bool = False

    @property
    def n_documents(self) -> int:
        """How many documents there are, blank ones not counted."""
        return sum(source.documents for source in self.sources)

    @property
    def n_bytes(self) -> int:
        """How many bytes of UTF-8 these documents have."""
        return sum(source.bytes for source in self.sources)

    def pieces(self) -> Iterator[Piece]:
        """Yield the documents of all files, piece by piece, blank ones left out."""
        for file in self.files:
            for piece in read_file(file, self.reading.boundaries, self.reading.records):
                if not piece.is_blank_document:
                    yield piece


def survey(
    paths: Sequence[Path | HubFiles], reading: Reading, *, held_out: bool, seed: int | None
) -> Survey:
    """Read every text once, and return what is there.

    Args:
        paths: Files and folders, and files of the hub.
        reading: How they become documents. Every file that is found is added to its `excluding`,
            so that no file is read as two sources.
        held_out: Whether they are given as held-out text.
        seed: What the digests depend on; None computes none.

    Raises:
        DataError: If a file cannot be read as text, or nothing is found.
        OSError: If a file cannot be opened.
    """
    found = Survey(reading=reading)
    for path in paths:
        if isinstance(path, HubFiles):
            given, top = path.files, path.origin
        else:
            given, top = [path], path
        files = [
            file
            for each in given
            for file in find_files(each, globs=reading.globs, excluding=reading.excluding)
        ]
        found.sources.append(
            Source(
                # A file name need not be UTF-8, but JSON is.
                path=os.fsencode(top).decode("utf-8", "replace"),
                held_out=held_out,
                files=0,
                documents=0,
                bytes=0,
                blank_documents=0,
                undecodable_files=0,
            )
        )
        for file in files:
            _add_file(found, file, reading, seed)
    if found.n_documents == 0:
        raise DataError(_nothing_found(found, paths, reading, held_out=held_out))
    return found


def _add_file(found: Survey, file: Path, reading: Reading, seed: int | None) -> None:
    """Count the documents of one file, all of them or, if it is skipped, none."""
    n_documents = n_bytes = n_blank = 0
    has_mask = False
    digests: list[int] = []
    source = found.sources[-1]
    try:
        for piece in read_file(file, reading.boundaries, reading.records):
            if piece.is_blank_document:
                n_blank += 1
                continue
            has_mask = has_mask or piece.counted is not None
            n_documents += piece.ends
            n_bytes += len(piece.text.encode())
            if piece.begins and seed is not None:
                number = digest(piece.document_key, seed)
                digests = [min([number, *digests]), max([number, *digests])]
    except NotTextError:
        if not reading.skip_undecodable:
            raise
        found.sources[-1] = replace(source, undecodable_files=source.undecodable_files + 1)
        return
    found.files.append(file)
    found.has_mask = found.has_mask or has_mask
    found.smallest_digest = min([found.smallest_digest, *digests])
    found.largest_digest = max([found.largest_digest, *digests])
    found.sources[-1] = replace(
        source,
        files=source.files + 1,
        documents=source.documents + n_documents,
        bytes=source.bytes + n_bytes,
        blank_documents=source.blank_documents + n_blank,
    )


def _nothing_found(
    found: Survey, paths: Sequence[Path | HubFiles], reading: Reading, *, held_out: bool
) -> str:
    what = "the held-out files" if held_out else "the files"
    names = [path.origin if isinstance(path, HubFiles) else str(path) for path in paths]
    n_blank = sum(source.blank_documents for source in found.sources)
    n_undecodable = sum(source.undecodable_files for source in found.sources)
    globs = f", globs {list(reading.globs)}" if reading.globs else ""
    return (
        f"{what} must hold some text, but {names}{globs} hold none: {len(found.files)} files "
        f"with {n_blank} blank documents, {n_undecodable} files skipped that are not UTF-8; "
        "name other files"
    )
