"""A file of answers, a line each, which a kill leaves good to go on with."""

import fcntl
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from receptance.errors import DataError


class AnswerFile:
    """Lines that each begin with a mark, which says what they answer.

    A line is handed to the system when it is written, so that a killed process leaves all of them,
    and half of one at worst.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    def go_on(self, marks: Iterable[str]) -> int:
        """Go behind the lines that are there; half of a line is cut off.

        Args:
            marks: What the lines are to begin with, in order.

        Returns:
            How many whole lines are there.

        Raises:
            DataError: If there is another line; then the file is not changed.
        """
        wanted = iter(marks)
        n_lines, end = 0, 0
        self._file.seek(0)
        for line in self._file:
            mark = next(wanted, "").encode()
            is_half = not line.endswith(b"\n")
            if not mark or not (line.startswith(mark) or (is_half and mark.startswith(line))):
                raise DataError(
                    f"{self._path}:{n_lines + 1}: the line must answer the same prompt by the same "
                    "model and settings, but does not; name another output, or remove this one"
                )
            if is_half:
                break
            n_lines, end = n_lines + 1, end + len(line)
        self._file.seek(end)
        self._file.truncate()
        return n_lines

    def write(self, line: str) -> None:
        """Add a line, and hand it to the system.

        Args:
            line: Without the end of the line.
        """
        self._file.write(line.encode() + b"\n")
        self._file.flush()


@contextmanager
def answer_file(path: Path) -> Generator[AnswerFile]:
    """Open a file of answers, or begin one; what was written is on the disk at the end.

    Args:
        path: The file. Its folder must exist.

    Yields:
        The file, which no other process writes meanwhile.

    Raises:
        DataError: If another process writes it.
        OSError: If it cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{str(path)!r} must be written by one process at a time, but another one is at "
                "it; wait for it, or name another output"
            ) from None
        yield AnswerFile(path, file)
        os.fsync(descriptor)
