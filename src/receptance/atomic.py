"""Files and folders that appear whole or not at all.

Whatever is written here is staged under a temporary name beside its destination, flushed to the
disk, and renamed: a reader sees the old content or the new, whenever the power goes. A failure on
the way, a full disk among them, removes what was staged and leaves the destination as it was.
"""

import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Of Linux's <fcntl.h> and <stdio.h>: paths from the working folder; exchange the two.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


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
    staged = staging_name(path)
    try:
        with errors_that_name(path, staged):
            yield staged
            fsync(staged)
            staged.replace(path)
    finally:
        # Where nothing can be written, nothing can be removed: that error would hide the first.
        with suppress(OSError):
            staged.unlink(missing_ok=True)
    fsync(path.parent)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes the folder `path` when the block ends well.

    Args:
        path: The destination. Its parent must exist.
        replace: Whether a folder already at `path` is replaced, as `put_folder` does it.

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
    staged = staging_name(path)
    try:
        with errors_that_name(path, staged):
            staged.mkdir()
            yield staged
            for folder, _, files in os.walk(staged):
                for name in files:
                    fsync(Path(folder, name))
                fsync(Path(folder))
            put_folder(staged, path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def put_folder(staged: Path, path: Path) -> None:
    """Give the folder `staged` the name `path`, and wait until the disk knows it.

    A folder that is there is deleted. Linux exchanges the two names in one step, so that there is
    a whole folder at `path` at any time; where the file system or the system cannot, the old one
    is first renamed, and for an instant there is none.

    Args:
        staged: A folder beside `path`, all of it on the disk.
        path: Its name from now on.

    Raises:
        NotADirectoryError: If `path` is a file.
        OSError: If it cannot be renamed; what was at `path` is then there. If the disk then fails
            to confirm it, the new folder is at `path`, and may be gone after a power cut.
    """
    if not path.exists():
        staged.rename(path)
        fsync(path.parent)
        return
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    old = staged
    if not _exchange(staged, path):
        old = staging_name(path)
        path.rename(old)
        try:
            staged.rename(path)
        except BaseException:
            old.rename(path)
            raise
    # Only when the disk has the new name may the old folder lose its content.
    fsync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_staged(folder: Path) -> None:
    """Remove what a killed process had staged in `folder`; no other may be writing there."""
    for left in folder.glob(".*.tmp-*"):
        # What cannot be removed does no harm, since no reader takes it for anything.
        with suppress(OSError):
            left.unlink() if left.is_file() else shutil.rmtree(left, ignore_errors=True)


def staging_name(path: Path) -> Path:
    """Return a name beside `path` that no other process has, and which `remove_staged` removes."""
    return path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def errors_that_name(path: Path, staged: Path) -> Iterator[None]:
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


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step, and return whether that was possible."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if renameat2(*paths, _RENAME_EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(error, os.strerror(error), str(other))
