"""The zip of a torch file, held to what `torch.save` writes before PyTorch reads it.

Python's reader of zips and PyTorch's do not agree on every file: one has two ends, in another two
names differ only in case. Whatever they could see differently is refused, so that what was checked
is what is read.
"""

import struct
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO, NamedTuple

from receptance.checkpoint.files.pickle_check import check_pickle
from receptance.errors import CheckpointError

# What the unpickler and the zip reader of PyTorch raise on damaged input. Deliberately no
# OSError: a file that cannot be opened is the operating system's own error.
UNREADABLE = (
    UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

_MAX_PICKLE_BYTES = 2_000_000  # that of the largest RWKV-4 takes a twentieth
_MAX_RECORDS = 100_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's record: signature, lengths of two names
_KNOWN_FLAGS = 0x0808  # of a zip's part: sizes come after it, too; its name is in UTF-8
_PICKLE = "data.pkl"
# The end of a zip, and the two parts that are before it where a size needs 64 bits: signature,
# numbers of disks, counts of parts, length and place of the directory, length of a comment.
_END = struct.Struct("<4s4H2IH")
_LARGE_LOCATOR = struct.Struct("<4sIQI")
_LARGE_END = struct.Struct("<16x2I4Q")


class Records(NamedTuple):
    """Where the parts of a zip lie in its file, by the byte at which they begin."""

    size: int
    lengths: dict[int, int]


def check_zip(path: Path) -> Records:
    """Return where the parts of a zip lie, each stored as it is and by itself."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            size, entries = file.seek(0, 2), archive.infolist()
            _check_end(file, archive.start_dir, len(entries))
            _check_entries(path, entries, size)
            records = _places(file, entries)
            orders = [archive.read(e) for e in entries if e.filename.endswith("/byteorder")]
            pickled = _pickle_of(path, entries)
            names, content = {entry.filename for entry in entries}, archive.read(pickled)
    except (zipfile.BadZipFile, *UNREADABLE) as error:
        raise CheckpointError(
            f"{str(path)!r} must be a zip, as `torch.save` writes it since 2020, but it is not, or "
            f"is cut short: {reason(error)}"
        ) from error
    lies = [each for each in pairwise([*sorted(records), (size, 0)]) if _overlap(*each)]
    if lies:
        raise CheckpointError(
            f"the parts of {str(path)!r} must lie one after the other in its {size} bytes, but the "
            f"one at byte {lies[0][0][0]} does not end before the next"
        )
    if orders and orders[0] != sys.byteorder.encode():
        raise CheckpointError(
            f"{str(path)!r} must have the byte order of this machine, {sys.byteorder!r}, but it "
            f"was written in {orders[0]!r:.20}"
        )
    _check_pickle(path, pickled.filename.removesuffix(_PICKLE), content, names)
    return Records(size, dict(records))


def _check_end(file: BinaryIO, start: int, count: int) -> None:
    """Raise a ValueError unless a zip ends as PyTorch ends it: its directory, and then the end.

    Args:
        file: The zip.
        start: Where its directory was found.
        count: How many parts are in it.
    """
    size = file.seek(0, 2)
    tail = _tail(file, _END.size)
    signature, *numbers, length, offset, comment = _END.unpack(tail)
    end, known = size - _END.size, (0, 0, count, count)
    before = _tail(file, _END.size + _LARGE_LOCATOR.size)[: _LARGE_LOCATOR.size]
    if before.startswith(b"PK\x06\x07"):
        # The sizes that count are then in an end of 64 bits, whose place is told just before.
        end = _LARGE_LOCATOR.unpack(before)[2]
        large = _tail(file, size - end)[: _LARGE_END.size]
        is_near = end + _LARGE_END.size + _LARGE_LOCATOR.size + _END.size == size
        if not is_near or len(large) < _LARGE_END.size:
            message = "it has two ends"
            raise ValueError(message)
        *numbers, length, offset = _LARGE_END.unpack(large)
    is_whole = (*numbers, offset, offset + length) == (*known, start, end)
    if signature != b"PK\x05\x06" or comment or not is_whole:
        message = "something is before, behind or between its parts"
        raise ValueError(message)


def _tail(file: BinaryIO, length: int) -> bytes:
    """Return the last bytes of a file."""
    file.seek(max(0, file.seek(0, 2) - length))
    return file.read(length)


def _pickle_of(path: Path, entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the part that PyTorch unpickles: all parts are in one folder, which has one of it."""
    names = [entry.filename for entry in entries]
    root = names[0].partition("/")[0] if names else ""
    # PyTorch looks names up without regard to their case.
    if len({name.lower() for name in names}) != len(names):
        message = "two of its parts have the same name"
        raise ValueError(message)
    if not all(name.startswith(f"{root}/") and name.isprintable() for name in names):
        raise ValueError(f"its parts must be in one folder, {root!r:.80}")
    if f"{root}/constants.pkl" in names:
        raise CheckpointError(
            f"{str(path)!r} must hold tensors and nothing else, but it is a program of TorchScript"
        )
    return entries[names.index(f"{root}/{_PICKLE}")]


def _check_pickle(path: Path, root: str, content: bytes, names: set[str]) -> None:
    """Raise a CheckpointError unless a pickle is that of tensors and plain values by name.

    Args:
        path: The file.
        root: What the names of its parts begin with.
        content: The pickle.
        names: Of all parts.
    """
    try:
        missing = sorted({f"{root}data/{key}" for key in check_pickle(content)} - names)
    except ValueError as error:
        raise CheckpointError(
            f"{str(path)!r} must hold tensors by name and nothing else, whole, but {error}"
        ) from error
    if missing:
        raise CheckpointError(
            f"{str(path)!r} must hold the numbers of its tensors, but it has no {missing[0]!r:.80}"
        )


def _places(file: BinaryIO, entries: list[zipfile.ZipInfo]) -> list[tuple[int, int]]:
    """Return the byte at which the content of each of a zip's parts begins, and its length."""
    records: list[tuple[int, int]] = []
    for entry in entries:
        if entry.header_offset < 0:  # of a zip whose beginning is cut off
            raise zipfile.BadZipFile(f"{entry.filename!r:.80} lies before the file begins")
        file.seek(entry.header_offset)
        signature, *names = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        begin = entry.header_offset + _LOCAL_HEADER.size + sum(names)
        records.append((begin, entry.file_size if signature == b"PK\x03\x04" else -1))
    return records


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether a part is none, or does not end before another one begins."""
    return one[1] < 0 or one[0] + one[1] > other[0] or one[0] == other[0]


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise a CheckpointError unless the directory's parts are stored and fit in the file."""
    if len(entries) > _MAX_RECORDS:
        raise CheckpointError(
            f"{str(path)!r} must have at most {_MAX_RECORDS} parts, but it has {len(entries)}"
        )
    for entry in entries:
        is_plain = entry.flag_bits & ~_KNOWN_FLAGS == 0
        is_stored = entry.compress_type == zipfile.ZIP_STORED and is_plain
        if not is_stored or entry.compress_size != entry.file_size:
            raise CheckpointError(
                f"{entry.filename!r:.80} in {str(path)!r} must be stored as it is, but it is "
                "compressed or encrypted; load the file in PyTorch where you trust it and save it "
                "again"
            )
        is_pickle = entry.filename.endswith(".pkl")
        if is_pickle and entry.file_size > _MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{entry.filename!r:.80} in {str(path)!r} must have at most {_MAX_PICKLE_BYTES} "
                f"bytes, but it has {entry.file_size}"
            )
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise CheckpointError(
            f"the parts of {str(path)!r} must fit in its {size} bytes, but they claim {total}"
        )


def reason(error: BaseException) -> str:
    """Return what is wrong, in one line.

    PyTorch's own first line tells how to load the file all the same, so that what is hidden in it
    runs: advice that no message about a hostile file may pass on.
    """
    lines = str(error).strip().splitlines()
    is_advice = not lines or "weights" in lines[0].lower()
    return type(error).__name__ if is_advice else lines[0][:200]
