"""The one corpus that every machine with Python has: the source of its standard library."""

import hashlib
import sysconfig
from pathlib import Path
from typing import NamedTuple

from receptance.errors import DataError

# Tests, and what was not written but generated: tables of character sets, of documentation, of
# the grammar, of the build.
LEFT_OUT = {
    "test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data",
    "_pyrepl_tests", "__pycache__", "lib-dynload", "config",
}  # fmt: skip
# A held-out file has at least so many bytes: on a file of a few lines, compressors and models alike
# measure little but their own beginning.
LEAST_HELD_OUT_BYTES = 4096
LEFT_OUT_PREFIXES = ("_sysconfigdata", "config-")


class Corpus(NamedTuple):
    """Files to train on, and whole files to measure with."""

    train: list[Path]
    held_out: list[Path]


def standard_library(*, n_held_out: int = 40, folder: Path | None = None) -> Corpus:
    """Return the sources of the running interpreter's standard library.

    Args:
        n_held_out: How many whole files are held out, chosen by a hash of their names.
        folder: The library; None for the running interpreter's.

    Raises:
        DataError: If there are too few files to hold any out.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(folder.rglob("*.py")) if _is_written(path.relative_to(folder))]
    large = [path for path in files if path.stat().st_size >= LEAST_HELD_OUT_BYTES]
    by_hash = sorted(large, key=lambda path: _hash(path.relative_to(folder)))
    if len(large) < 2 * n_held_out:
        raise DataError(
            f"the standard library at {str(folder)!r} must have at least {2 * n_held_out} source "
            f"files of {LEAST_HELD_OUT_BYTES} bytes, but it has {len(large)}; install the one of "
            "this Python"
        )
    held_out = set(by_hash[:n_held_out])
    return Corpus(train=[path for path in files if path not in held_out], held_out=sorted(held_out))


def _is_written(path: Path) -> bool:
    return not any(part in LEFT_OUT or part.startswith(LEFT_OUT_PREFIXES) for part in path.parts)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()
