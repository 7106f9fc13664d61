"""A folder that is long in the making: it appears whole or not at all, and a kill loses little.

What is staged lies beside the destination under one name, not a random one, and next to it a
journal of what of it is on the disk. Whoever makes the same folder by the same plan goes on there.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from receptance.atomic import atomic_file, errors_that_name, fsync, put_folder
from receptance.data.writer import SplitProgress, SplitWriter
from receptance.errors import DataError
from receptance.tokenizer import WorkerLostError

NOTE_BYTES = 64 << 20
"""How much text is tokenized between two notes."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What was on the disk at one time.

    Attributes:
        plan: The hash of what decides the bytes of the store.
        pieces: How many pieces of documents were written.
        splits: How far each split was.
    """

    plan: str
    pieces: int
    splits: dict[str, SplitProgress]


_ADAPTER = TypeAdapter(Note)


class Journal:
    """The staged folder, and the notes on what is in it."""

    def __init__(self, folder: Path, path: Path, plan: str, last: Note | None) -> None:
        self.folder = folder
        """Where the store is written."""
        self.last = last
        """What an interrupted process had written; None to begin with nothing."""
        self._path = path
        self._plan = plan
        self._noted = self._n_bytes(last.splits) if last else 0

    def note(self, pieces: int, writers: Mapping[Any, SplitWriter]) -> None:
        """Write down how far the splits are, if enough was added since the last time.

        Args:
            pieces: How many pieces of documents were written.
            writers: What writes them, by the names of the splits.
        """
        n_bytes = sum(writer.n_bytes for writer in writers.values())
        if n_bytes - self._noted < NOTE_BYTES:
            return
        # On the disk first: a note never tells of what a power cut could take.
        splits = {str(name): writer.sync() for name, writer in writers.items()}
        with atomic_file(self._path) as staged:
            note = Note(plan=self._plan, pieces=pieces, splits=splits)
            staged.write_text(json.dumps(asdict(note)), "utf-8")
        self._noted = n_bytes

    @staticmethod
    def _n_bytes(splits: Mapping[str, SplitProgress]) -> int:
        return sum(split.n_bytes for split in splits.values())


def plan_sha256(plan: object) -> str:
    """Return the hash of a plan, which JSON can hold or which at least has a `repr` of its own."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, default=repr).encode()).hexdigest()


def staged_paths(out: Path) -> tuple[Path, Path]:
    """Return the folder that becomes `out`, and the journal beside it."""
    return out.with_name(f".{out.name}.preparing"), out.with_name(f".{out.name}.preparing.json")


@contextmanager
def resumable_folder(out: Path, plan: str, *, replace: bool, restart: bool) -> Iterator[Journal]:
    """Yield a journal with a folder to fill, which becomes `out` when the block ends well.

    An error removes what is staged; a kill of this process or of a worker, a power cut or Ctrl-C
    leaves it to be gone on with.

    Args:
        out: The destination. Its parent must exist.
        plan: The hash of what decides the bytes of the folder.
        replace: Whether a folder at `out` is replaced.
        restart: Whether what an interrupted process left is thrown away.

    Raises:
        DataError: If another process makes the same folder, or an interrupted one had another plan.
        OSError: If a file cannot be written; `out` is then untouched.
    """
    staged, path = staged_paths(out)
    with errors_that_name(out, staged):
        staged.mkdir(exist_ok=True)
    with _lock(staged, out):
        last = None if restart or not any(staged.iterdir()) else _read_note(path, plan, out)
        if last is None:
            path.unlink(missing_ok=True)
            _empty(staged)
        try:
            with errors_that_name(out, staged):
                yield Journal(staged, path, plan, last)
                for each in sorted(staged.iterdir()):
                    fsync(each)
                fsync(staged)
                # A note that outlives its folder would tell of one that is not there.
                path.unlink(missing_ok=True)
                fsync(path.parent)
                _put(staged, out, replace=replace)
        except WorkerLostError:
            # As if this process had been killed: nothing is wrong with what is there.
            raise
        except Exception:
            shutil.rmtree(staged, ignore_errors=True)
            path.unlink(missing_ok=True)
            raise


@contextmanager
def _lock(staged: Path, out: Path) -> Iterator[None]:
    """Hold the folder against other processes; the system lets go of it when this one ends."""
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{str(out)!r} must be prepared by one process at a time, but another one is at "
                "it; wait for it, or name another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _read_note(path: Path, plan: str, out: Path) -> Note | None:
    """Return what an interrupted process had written, None if it had noted nothing."""
    if not path.is_file():
        return None
    try:
        note = _ADAPTER.validate_json(path.read_bytes(), strict=True)
    except ValidationError:
        # Not written by this version, and so of no use to it.
        return None
    if note.plan != plan:
        raise DataError(
            f"preparing {str(out)!r} was interrupted, and went by other files, another tokenizer "
            "or other options; give those again to go on, or pass `restart` (--restart) to begin "
            "anew"
        )
    return note


def _put(staged: Path, out: Path, *, replace: bool) -> None:
    if out.exists() and not replace:
        raise DataError(f"{str(out)!r} must not exist yet, but by now it does; name another folder")
    put_folder(staged, out)


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
