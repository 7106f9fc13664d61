"""MANIFEST.json, the last file of a checkpoint: what each of the others must be, bit for bit."""

import errno
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from receptance.errors import CheckpointError

MANIFEST_FILE = "MANIFEST.json"
FORMAT = "receptance-training"
FORMAT_VERSION = 2

# What a lost or unreadable part of the disk looks like. Any other error, such as that of a missing
# permission, tells nothing about the checkpoint.
_OF_THE_DISK = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)


class DamagedError(CheckpointError):
    """The files of a checkpoint are not those that were written."""


@dataclass(frozen=True)
class FileRecord:
    """What a file must be."""

    size: int
    """In bytes."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint is of, and its files."""

    step: int
    """Steps done."""
    tokens: int
    """Tokens trained on."""
    world_size: int
    """How many ranks wrote it."""
    config_sha256: str
    """Of the settings that decide the run's numbers."""
    code_version: str
    """Of this package, when it was written."""
    parent: str
    """The name of the run's checkpoint before this one; "" for the first."""
    valid_bits_per_byte: float | None
    """Of held-out text, where it was measured after this very step."""
    files: Mapping[str, FileRecord]
    """All files but the manifest, by their path in the checkpoint, with `/`."""


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the file of a manifest; its last entry is the sha256 of what it says without it."""
    entries = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(manifest)}
    return _sealed(entries)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a checkpoint, every bit of it checked.

    Raises:
        DamagedError: If it is missing or is not as it was written.
        CheckpointError: If it is whole, but of a format that this version does not read.
        OSError: If it cannot be read, for a reason that is not the checkpoint's.
    """
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _of_the_disk(path, error) from error
    entries = _unsealed(content)
    if entries is None:
        raise DamagedError(f"{str(path)!r} must be as it was written, but its sha256 is another")
    found = entries.get("format"), entries.get("format_version")
    if found != (FORMAT, FORMAT_VERSION):
        raise CheckpointError(
            f"{str(path)!r} must be of the format {FORMAT} {FORMAT_VERSION}, but it is "
            f"{found[0]} {found[1]}; was it written by another version of receptance?"
        )
    files = {name: FileRecord(**record) for name, record in entries.pop("files").items()}
    known = {key: entries[key] for key in Manifest.__dataclass_fields__ if key != "files"}
    return Manifest(**known, files=files)


def verify(folder: Path, *, hashes: bool = True) -> Manifest:
    """Return the manifest of a checkpoint if every file is what it says.

    Args:
        folder: The checkpoint. Files that the manifest does not name are not looked at.
        hashes: Whether to read every file and compare its sha256; otherwise sizes are compared.

    Raises:
        DamagedError: If a file is missing or another, or there is no manifest.
        CheckpointError: If the checkpoint is of a format that this version does not read.
        OSError: If a file cannot be read, for a reason that is not the checkpoint's.
    """
    manifest = read_manifest(folder)
    # All sizes first: what was cut short is then found without reading anything.
    for name, record in manifest.files.items():
        path = folder / PurePosixPath(name)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _of_the_disk(path, error) from error
        if size != record.size:
            raise DamagedError(f"{str(path)!r} must have {record.size} bytes, but it has {size}")
    for name, record in manifest.files.items() if hashes else ():
        path = folder / PurePosixPath(name)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _of_the_disk(path, error) from error
        if digest != record.sha256:
            raise DamagedError(
                f"{str(path)!r} must have the sha256 {record.sha256}, but it has {digest}"
            )
    return manifest


def _sealed(entries: dict[str, Any]) -> bytes:
    """Return entries as JSON that ends with the hash of itself without it."""
    digest = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    return (json.dumps({**entries, "sha256": digest}, indent=2) + "\n").encode()


def _unsealed(content: bytes) -> dict[str, Any] | None:
    """Return the entries of a file that `_sealed` made; None if it is another."""
    try:
        entries = json.loads(content)
        del entries["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entries if _sealed(entries) == content else None


def _of_the_disk(path: Path, error: OSError) -> OSError | DamagedError:
    """Return `error`, as damage of the checkpoint if that is what it tells of."""
    if error.errno not in _OF_THE_DISK:
        return error
    return DamagedError(f"{str(path)!r} cannot be read: {error.strerror}")
