"""A checkpoint appears whole, on the disk and verified, or not at all.

Every rank writes its files into one staging folder beside the destination. Each file is hashed as
its bytes are handed over, and then flushed to the disk. When all ranks have told of success, rank 0
writes the manifest, reads everything back, flushes the folders, renames, and flushes the folder
above.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from receptance.atomic import errors_that_name, fsync, put_folder, staging_name
from receptance.errors import CheckpointError
from receptance.training.checkpoints.manifest import (
    MANIFEST_FILE,
    DamagedError,
    FileRecord,
    Manifest,
    manifest_bytes,
    verify,
)
from receptance.training.processes import Ranks

# What is hashed is then still in the processor's cache when it is written.
_CHUNK_BYTES = 1 << 20


class StagedFolder:
    """A checkpoint while it is written: where, and what each file of this rank must be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, FileRecord] = {}

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file and wait until it is on the disk.

        Args:
            name: Its path in the checkpoint, with `/`; folders on the way are made.
            parts: The bytes, in order.

        Raises:
            OSError: If it cannot be written.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for part in parts:
                content = memoryview(part).cast("B") if len(part) else memoryview(b"")
                for begin in range(0, len(content), _CHUNK_BYTES):
                    chunk = content[begin : begin + _CHUNK_BYTES]
                    digest.update(chunk)
                    size += file.write(chunk)
            file.flush()
            _to_disk(file.fileno())
        self.files[name] = FileRecord(size, digest.hexdigest())

    def adopt(self, name: str) -> None:
        """Take in a file that other code wrote into the folder, and wait until it is on the disk.

        Its hash is of what it holds now.

        Raises:
            OSError: If it cannot be read or flushed.
        """
        with (self.path / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            _to_disk(file.fileno())
        self.files[name] = FileRecord(size, digest)


def commit(
    path: Path, manifest: Manifest, write: Callable[[StagedFolder], None], ranks: Ranks
) -> Manifest:
    """Write a checkpoint; called by every rank.

    Args:
        path: The checkpoint's folder, replaced if it is there. Its parent must exist.
        manifest: Rank 0's is written, with the files of all ranks in it.
        write: Writes the files of this rank.
        ranks: The processes that write it.

    Returns:
        What was written, on every rank.

    Raises:
        OSError: On every rank, if one of them failed, or if what was written reads back otherwise;
            at `path` is then what was there before, or nothing.
    """
    staged = Path(together(ranks, lambda: _make(path) if ranks.is_first else "")[0])
    stage = StagedFolder(staged)
    try:
        with errors_that_name(path, staged):
            written = together(ranks, lambda: _files(stage, write))
            for rank_files in written:
                stage.files |= {name: FileRecord(**each) for name, each in rank_files.items()}
            manifest = replace(manifest, files=dict(stage.files))
            together(ranks, lambda: _finish(stage, path, manifest) if ranks.is_first else None)
    finally:
        if ranks.is_first:
            shutil.rmtree(staged, ignore_errors=True)
    return manifest


def together(ranks: Ranks, action: Callable[[], Any]) -> list[Any]:
    """Return what `action` gives on each rank, as JSON has it.

    Raises:
        OSError, CheckpointError: On every rank, if `action` raised it on one.
    """
    own: OSError | CheckpointError | None = None
    result, failure = None, ""
    try:
        result = action()
    except (OSError, CheckpointError) as error:
        own, failure = error, reason(error)
    kind = CheckpointError.__name__ if isinstance(own, CheckpointError) else OSError.__name__
    outcomes = ranks.gather_objects([result, failure, kind])
    if own is not None:
        raise own
    for rank, (_, other, kind) in enumerate(outcomes):
        if other:
            error = CheckpointError if kind == CheckpointError.__name__ else OSError
            raise error(f"rank {rank} failed: {other}")
    return [each for each, _, _ in outcomes]


def reason(error: OSError | CheckpointError) -> str:
    """Return what an error says, with the file that it is about, but without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    return f"{str(error.filename)!r}: {error.strerror}" if error.filename else error.strerror


def _make(path: Path) -> str:
    staged = staging_name(path)
    with errors_that_name(path, staged):
        staged.mkdir()
    return str(staged)


def _files(stage: StagedFolder, write: Callable[[StagedFolder], None]) -> dict[str, dict]:
    write(stage)
    return {name: asdict(record) for name, record in stage.files.items()}


def _finish(stage: StagedFolder, path: Path, manifest: Manifest) -> None:
    """Complete the staged folder, read it back, and give it its name."""
    stage.write(MANIFEST_FILE, [manifest_bytes(manifest)])
    for folder, _, _ in os.walk(stage.path):
        fsync(Path(folder))
    try:
        verify(stage.path)
    except DamagedError as error:
        told = str(error).replace(str(stage.path), str(path))
        raise OSError(f"what was written reads back otherwise: {told}") from error
    put_folder(stage.path, path)


def _to_disk(descriptor: int) -> None:
    """Wait until a file is on the disk, and let the system forget what it held.

    Then what is read next is what the disk holds, and not what memory still has.
    """
    os.fsync(descriptor)
    if hasattr(os, "posix_fadvise"):  # Linux
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
