"""One process at a time in the folder of a run."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from receptance.errors import ConfigError

LOCK_FILE = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder while the block runs.

    The system gives the lock back when the process ends, however it ends. The folder is made if it
    is not there; if the block leaves it empty, it is removed again.

    Raises:
        ConfigError: If another process has the lock; its number and machine are told.
        OSError: If the folder cannot be made or written.
    """
    made = _make(folder)
    path = folder / LOCK_FILE
    try:
        descriptor = _locked(path)
        try:
            owner = f"{os.getpid()} {socket.gethostname()}\n".encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner, 0)
            yield
        finally:
            # Removed while it is locked: whoever has it open by then sees that it is another.
            path.unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        with suppress(OSError):
            for each in made:
                each.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it, and return the new ones, the innermost first."""
    made = []
    for each in [*reversed(folder.parents), folder]:
        with suppress(FileExistsError):
            each.mkdir()
            made.insert(0, each)
    return made


def _locked(path: Path) -> int:
    """Return a descriptor of the file at `path`, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").split()
            os.close(descriptor)
            raise ConfigError(_is_used(path.parent, owner)) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_used(folder: Path, owner: list[str]) -> str:
    # Between the lock and the owner's number in it there is an instant.
    process, machine = owner if len(owner) == 2 else ("", "")
    who = f"process {process} on {machine}" if process else "another process"
    end = f"end it with `kill {process}`" if process else "end it"
    return (
        f"{str(folder)!r} must be used by one process at a time, but {who} is training in it; "
        f"wait for it, {end}, or choose another `name`"
    )


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the open file: a run that ended may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
