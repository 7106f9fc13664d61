"""Whether a disk can take what is to be written."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from receptance.atomic import fsync, staging_name


def check_space(folder: Path, n_bytes: int, purpose: str) -> None:
    """Raise unless the disk of `folder` has so many bytes free for this user.

    Args:
        folder: An existing folder.
        n_bytes: What is needed.
        purpose: What for, as the end of a sentence: "to begin".

    Raises:
        OSError: If it has fewer, or cannot be asked.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        reason = (
            f"{str(folder)!r} must have {n_bytes / 1e9:.3f} GB free {purpose}, but it has "
            f"{free / 1e9:.3f} GB; free some of the disk, or run elsewhere"
        )
        raise OSError(errno.ENOSPC, reason)


def check_writable(folder: Path) -> None:
    """Raise unless a file can be written to the disk of `folder`, flushed, and removed.

    Raises:
        OSError: If it cannot, as on a disk that is mounted read-only or of a used-up quota.
    """
    probe = staging_name(folder / "probe")
    try:
        probe.write_bytes(bytes(4096))
        fsync(probe)
    except OSError as error:
        reason = f"{str(folder)!r} cannot be written: {os.strerror(error.errno or 0)}"
        raise OSError(error.errno, reason) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
