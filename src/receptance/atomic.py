"""Files and folders that appear whole or not at all.

Whatever is written here is staged under a temporary name beside its destination, flushed to the
disk, and renamed: a reader sees the old content or the new, whenever the power goes. A failure on
the way, a full disk among them, removes what was staged and leaves the destination as it was.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose content becomes the file `path` when the block ends well.

    Args:
        path: The destination, replaced if it exists. Its folder must exist.

    Yields:
        A path in the same folder, for the caller to create and write.

    Raises:
        FileExistsError: If there is a folder or a device at `path`, before anything is written.
        OSError: If the file cannot be written; `path` is then untouched.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{str(path)!r} must be a regular file to be replaced by one")
    staged = _staging_name(path)
    try:
        with _errors_that_name(path, staged):
            yield staged
            _fsync(staged)
            staged.replace(path)
    finally:
        # Where nothing can be written, nothing can be removed: that error would hide the first.
        with suppress(OSError):
            staged.unlink(missing_ok=True)
    _fsync(path.parent)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes the folder `path` when the block ends well.

    Args:
        path: The destination. Its parent must exist.
        replace: Whether a folder already at `path` is replaced. For an instant between two
            renames there is then no folder at `path`; the old one is deleted last.

    Yields:
        A folder beside `path`, for the caller to fill.

    Raises:
        FileExistsError: If `path` exists and `replace` is false, before anything is written.
        NotADirectoryError: If `path` is a file, before anything is written.
        OSError: If a file cannot be written; `path` is then untouched.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{str(path)!r} must not exist yet, but it does; choose another name")
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{str(path)!r} must be a folder to be replaced by one")
    staged = _staging_name(path)
    try:
        with _errors_that_name(path, staged):
            staged.mkdir()
            yield staged
            for folder, _, files in os.walk(staged):
                for name in files:
                    _fsync(Path(folder, name))
                _fsync(Path(folder))
            _swap(staged, path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    _fsync(path.parent)


def remove_staged(folder: Path) -> None:
    """Remove what a killed process had staged in `folder`; no other may be writing there."""
    for left in folder.glob(".*.tmp-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def _errors_that_name(path: Path, staged: Path) -> Iterator[None]:
    """Let the errors of writing `staged`, or in it, name what they will be to the user."""
    try:
        yield
    except OSError as error:
        # A full disk names no file; another file's error is another file's.
        failed = staged if error.filename is None else Path(os.fsdecode(error.filename))
        if error.errno is None or not failed.is_relative_to(staged):
            raise
        named = path / failed.relative_to(staged)
        reason = f"{str(named)!r} cannot be written: {os.strerror(error.errno)}"
        raise OSError(error.errno, reason) from error


def _swap(staged: Path, path: Path) -> None:
    """Rename `staged` to `path`, moving what is there out of the way first."""
    if not path.exists():
        staged.rename(path)
        return
    trash = _staging_name(path)
    path.rename(trash)
    try:
        staged.rename(path)
    except BaseException:
        trash.rename(path)
        raise
    shutil.rmtree(trash, ignore_errors=True)


def _staging_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")


def _fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
