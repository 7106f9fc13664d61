"""States in files: they outlive the server, and servers of one model may share them."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from receptance.atomic import atomic_file
from receptance.errors import ConfigError, StateError
from receptance.models import State
from receptance.serving.state_store.kept import Kept, is_id

logger = logging.getLogger(__name__)

_FORMAT = 1
_TYPES = {"owner": str, "name": str, "tokens": int, "n_bytes": int, "id": str, "created": int}
_MAX_SIDECAR_BYTES = 16 * 1024
_SCAN_SECONDS = 60.0
_LEFT_SECONDS = 3600.0
"""What was staged for so long, its writer did not live to finish."""


class FolderShelf:
    """States in a folder, of one model.

    A state is two files: its numbers, and beside them whose it is, what it is called, and a hash of
    the first. The second is written last and removed first, so a state without it is none. Both are
    in a folder that is named by hashes of the model and of the owner. Nothing is remembered of what
    is there, so other servers may write there too.
    """

    def __init__(
        self,
        root: Path,
        *,
        like: State,
        fingerprint: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Open a folder, and make it if it is not there.

        Args:
            root: The folder. Other models' states in it are left alone, and count as bytes.
            like: A state of the model.
            fingerprint: The model's.
            now: Tells the time.

        Raises:
            ConfigError: If nothing can be written there.
        """
        self._root = root
        self._folder = root / _hash(fingerprint)
        self._like = like
        self._fingerprint = fingerprint
        self._now = now
        self._lock = threading.Lock()
        self._n_bytes = 0
        self._scanned_at = 0.0
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_file(self._folder / "probe") as staged:
                staged.touch(mode=0o600)
            (self._folder / "probe").unlink()
        except OSError as error:
            message = f"`state_folder` must be a folder to write in, but {str(root)!r} is not"
            raise ConfigError(f"{message}: {os.strerror(error.errno or 0)}") from error
        self._remove_left()

    @property
    def n_bytes(self) -> int:
        """How much all files take; those that another server wrote are known within a minute."""
        with self._lock:
            if self._now() - self._scanned_at > _SCAN_SECONDS:
                self._n_bytes = sum(_size(each) for each in self._root.glob("*/*/*.safetensors"))
                self._scanned_at = self._now()
            return self._n_bytes

    def of_owner(self, owner: str) -> list[Kept]:
        """Return what an owner keeps; see `Shelf`."""
        found = (self.find(owner, id_) for id_ in self._ids(owner))
        return [kept for kept in found if kept is not None]

    def count(self, owner: str) -> int:
        """Return how many states an owner keeps."""
        return sum(1 for _ in self._ids(owner))

    def find(self, owner: str, id_: str) -> Kept | None:
        """Return an owner's state of that id; None if the owner has none."""
        note = _note(self._path(owner, id_, "json"))
        told = {} if note is None else note["kept"]
        if {name: type(told[name]) for name in told} != _TYPES:
            return None
        kept = Kept(**told)
        return kept if (kept.owner, kept.id) == (owner, id_) else None

    def put(self, kept: Kept, state: State) -> None:
        """Write a state.

        Raises:
            OSError: If it cannot be written; then nothing is there.
        """
        notes = {"name": kept.name, "tokens": str(kept.tokens)}
        content = state.to_bytes(self._fingerprint, notes)
        note = {"format": _FORMAT, "kept": asdict(kept), "hash": _hash(content)}
        numbers = self._path(kept.owner, kept.id, "safetensors")
        numbers.parent.mkdir(exist_ok=True, mode=0o700)
        _write(numbers, content)
        try:
            _write(self._path(kept.owner, kept.id, "json"), json.dumps(note).encode())
        except OSError:
            with suppress(OSError):
                numbers.unlink()
            raise
        with self._lock:
            self._n_bytes += len(content)

    def read(self, kept: Kept) -> State | None:
        """Return a state's numbers; None if they are gone, or not as they were written."""
        note = _note(self._path(kept.owner, kept.id, "json"))
        try:
            content = self._path(kept.owner, kept.id, "safetensors").read_bytes()
            if note is None or note.get("hash") != _hash(content):
                return self._damaged(kept)
            state, _ = type(self._like).from_bytes(
                content, like=self._like, fingerprint=self._fingerprint
            )
        except (OSError, StateError):
            return self._damaged(kept)
        return state

    def remove(self, kept: Kept) -> bool:
        """Forget a state, and return whether it was there."""
        numbers = self._path(kept.owner, kept.id, "safetensors")
        size = _size(numbers)
        try:
            self._path(kept.owner, kept.id, "json").unlink()
        except OSError:
            return False
        with suppress(OSError):
            numbers.unlink()
        with self._lock:
            self._n_bytes = max(0, self._n_bytes - size)
        return True

    def _damaged(self, kept: Kept) -> None:
        logger.warning("%s can not be read, and counts as not there", kept.id)

    def _path(self, owner: str, id_: str, ending: str) -> Path:
        assert is_id(id_)
        return self._folder / _hash(owner) / f"{id_}.{ending}"

    def _ids(self, owner: str) -> Iterator[str]:
        with suppress(OSError):
            for each in (self._folder / _hash(owner)).iterdir():
                if each.suffix == ".json" and is_id(each.stem):
                    yield each.stem

    def _remove_left(self) -> None:
        """Remove what servers left that were killed while they wrote or removed a state."""
        for each in self._folder.glob("*/*"):
            is_staged = each.name.startswith(".")
            is_lonely = each.suffix == ".safetensors" and not each.with_suffix(".json").exists()
            with suppress(OSError):
                if (is_staged or is_lonely) and self._now() - each.stat().st_mtime > _LEFT_SECONDS:
                    each.unlink()


def _hash(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return blake2b(data, digest_size=16, person=b"receptance-state").hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write(path: Path, content: bytes) -> None:
    """Write a file that only this user may read."""
    with atomic_file(path) as staged:
        staged.touch(mode=0o600)
        staged.write_bytes(content)


def _note(path: Path) -> dict[str, Any] | None:
    """Return what is written beside a state; None if there is nothing, or nothing of ours."""
    try:
        with path.open("rb") as file:
            note = json.loads(file.read(_MAX_SIDECAR_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(note, dict) and note.get("format") == _FORMAT
    return note if is_ours and isinstance(note.get("kept"), dict) else None
