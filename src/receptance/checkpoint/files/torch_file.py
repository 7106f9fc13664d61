"""Tensors in a file of `torch.save`: the one place where a pickle is read.

Such a file is a zip of a pickle and of raw numbers, and a pickle can run any code. It is read by
PyTorch's restricted unpickler alone, which knows tensors and nothing that acts, and only after the
zip was found to hold its numbers as they are: a compressed zip could unfold without end, and memory
mapping would take its compressed bytes for weights. What the pickle claims of its tensors is
compared with the zip before any number is looked at.
"""

import mmap
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from receptance.checkpoint.files.pickle_check import check_pickle
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry

# What the unpickler and the zip reader of PyTorch raise on damaged input. Deliberately no
# OSError: a file that cannot be opened is the operating system's own error.
_UNREADABLE = (
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
_PLAIN = (str, int, float, bool)

# The end of a zip, and the two parts that are before it where a size needs 64 bits: signature,
# numbers of disks, counts of parts, length and place of the directory, length of a comment.
_END = struct.Struct("<4s4H2IH")
_LARGE_LOCATOR = struct.Struct("<4sIQI")
_LARGE_END = struct.Struct("<16x2I4Q")


class TorchFile(NamedTuple):
    """What a file holds by name."""

    tensors: dict[str, Entry]
    """Dense tensors: contiguous, or matrices whose transpose is."""
    others: dict[str, str | int | float | bool]


class _Described(NamedTuple):
    """What a file claims: tensors on the meta device, and where in it their numbers begin."""

    tensors: dict[str, Tensor]
    places: dict[str, int]
    others: dict[str, str | int | float | bool]


class _Records(NamedTuple):
    """Where the parts of a zip lie in its file, by the byte at which they begin."""

    size: int
    lengths: dict[int, int]


def map_torch_file(path: Path, *, read_only: bool = False) -> TorchFile:
    """Return what a file holds; its tensors are memory-mapped when the first one is read.

    Args:
        path: The file.
        read_only: Whether the tensors are only read. Then the file may be larger than the memory,
            and to write to a tensor ends the process. Otherwise it is mapped by `torch.load`.

    Raises:
        CheckpointError: If the file is damaged, is not what `torch.save` writes since 2020, holds
            what could act or anything but tensors and plain values by name, or claims more than it
            has.
        OSError: If it cannot be opened.
    """
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    tensors, places, others = _described(path, identity)
    weights = _mapped(path, tensors, places) if read_only else _loaded(path, tensors)
    entries = {
        name: Entry(tensor.dtype, tuple(tensor.shape), _reader(weights, name))
        for name, tensor in tensors.items()
    }
    return TorchFile(entries, dict(others))


@lru_cache(maxsize=16)  # whoever reads a large file through maps it anew a hundred times
def _described(path: Path, identity: tuple[int, ...]) -> _Described:
    """Return what a file claims to hold, all of it checked.

    Args:
        path: The file.
        identity: What changes with its content, so that another file is checked again.
    """
    del identity
    records = _check_zip(path)
    # On this device tensors have shapes and no memory, so a lie about a size costs nothing.
    tensors, others = _parted(path, _load(path, device="meta"))
    places = {name: _place(path, name, tensor, records) for name, tensor in tensors.items()}
    _check_total(path, tensors, records)
    return _Described(tensors, places, others)


def _check_zip(path: Path) -> _Records:
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
    except (zipfile.BadZipFile, *_UNREADABLE) as error:
        raise CheckpointError(
            f"{str(path)!r} must be a zip, as `torch.save` writes it since 2020, but it is not, or "
            f"is cut short: {_reason(error)}"
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
    return _Records(size, dict(records))


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


def _load(path: Path, *, device: str) -> object:
    """Return what the restricted unpickler makes of a file."""
    try:
        with warnings.catch_warnings():  # of a damaged pickle's protocol, which is then refused
            warnings.simplefilter("ignore", UserWarning)
            # On "meta" no number is read, and a map of all could be more than the memory.
            mapped = device != "meta"
            return torch.load(path, weights_only=True, mmap=mapped, map_location=device)
    except (*_UNREADABLE, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} must hold tensors and nothing else, whole, but PyTorch refuses it: "
            f"{_reason(error)}"
        ) from error


def _parted(
    path: Path, loaded: object
) -> tuple[dict[str, Tensor], dict[str, str | int | float | bool]]:
    """Return the tensors and the plain values of a mapping by name."""
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{str(path)!r} must hold tensors by name, but it holds {type(loaded).__name__!r}"
        )
    tensors: dict[str, Tensor] = {}
    others: dict[str, str | int | float | bool] = {}
    for name, value in loaded.items():
        if isinstance(name, str) and type(value) in _PLAIN:
            others[name] = value
            continue
        is_plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
        if not isinstance(name, str) or not is_plain:
            raise CheckpointError(
                f"{name!r:.80} in {str(path)!r} must be a tensor, but it is "
                f"{type(value).__name__!r}; is it a checkpoint of a training run?"
            )
        tensors[name] = value.detach()
    return tensors, others


def _place(path: Path, name: str, tensor: Tensor, records: _Records) -> int:
    """Return the byte at which a described tensor begins, if all of it lies in a part of the zip.

    Raises:
        CheckpointError: If it does not.
    """
    # Strides can claim a tensor far larger than its storage.
    if not (tensor.is_contiguous() or (tensor.ndim == 2 and tensor.T.is_contiguous())):
        raise CheckpointError(f"{name!r:.80} in {str(path)!r} must be contiguous, but it is not")
    storage = tensor.untyped_storage()
    start = int(getattr(storage, "_checkpoint_offset", None) or 0)
    offset = int(tensor.storage_offset()) * tensor.itemsize
    is_there = tensor.numel() == 0 or records.lengths.get(start) == storage.nbytes()
    if not is_there or offset + tensor.nbytes > storage.nbytes():
        raise CheckpointError(
            f"{name!r:.80} in {str(path)!r} must have the numbers that it claims, {tensor.nbytes} "
            "bytes in a part of the file, but it has not"
        )
    return start + offset


def _check_total(path: Path, tensors: Mapping[str, Tensor], records: _Records) -> None:
    """Raise a CheckpointError if tensors that share their numbers claim far more than there is."""
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    if claimed > 2 * records.size:  # an embedding may be the head as well
        raise CheckpointError(
            f"the tensors of {str(path)!r} must fit in its {records.size} bytes, but they claim "
            f"{claimed}"
        )


def _loaded(path: Path, described: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Return what gives the tensors, mapped by PyTorch once they are asked for."""
    kept: dict[str, Tensor] = {}

    def weights() -> dict[str, Tensor]:
        if not kept:
            loaded = _load(path, device="cpu")
            if not isinstance(loaded, Mapping) or not described.keys() <= loaded.keys():
                raise CheckpointError(f"{str(path)!r} must not change while it is read")
            kept.update({name: loaded[name].detach() for name in described})
        return kept

    return weights


def _mapped(
    path: Path, described: Mapping[str, Tensor], places: Mapping[str, int]
) -> Callable[[], dict[str, Tensor]]:
    """Return what gives the tensors, mapped to memory that cannot be written, when asked for.

    PyTorch itself maps files only so that they can be written, which counts as memory in use: one
    that is larger than the memory it does not open.
    """
    kept: dict[str, Tensor] = {}

    def weights() -> dict[str, Tensor]:
        if not kept:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            kept.update({n: _view(mapped, like, places[n]) for n, like in described.items()})
        return kept

    return weights


def _view(mapped: mmap.mmap, like: Tensor, place: int) -> Tensor:
    """Return the tensor whose numbers lie at a place in a mapped file."""
    if like.numel() == 0:
        return torch.empty(like.shape, dtype=like.dtype)
    with warnings.catch_warnings():  # that it cannot be written is what is wanted
        warnings.simplefilter("ignore", UserWarning)
        raw = torch.frombuffer(mapped, dtype=torch.uint8, count=like.nbytes, offset=place)
    if place % like.itemsize:  # numbers that lie where no processor can address them
        raw = raw.clone()
    return raw.view(like.dtype).as_strided(like.shape, like.stride())


def _reader(weights: Callable[[], dict[str, Tensor]], name: str) -> Callable[[], Tensor]:
    return lambda: weights()[name]


def _reason(error: BaseException) -> str:
    """Return what is wrong, in one line.

    PyTorch's own first line tells how to load the file all the same, so that what is hidden in it
    runs: advice that no message about a hostile file may pass on.
    """
    lines = str(error).strip().splitlines()
    is_advice = not lines or "weights" in lines[0].lower()
    return type(error).__name__ if is_advice else lines[0][:200]
