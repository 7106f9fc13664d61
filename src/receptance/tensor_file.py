"""Named tensors in a safetensors file."""

import json
import math
import mmap
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 64

_LENGTH_BYTES = 8
# The library's bound is fifty times this; the largest models need a tenth of it, and what Python
# makes of a header of numbers takes ten times the memory of its text.
_MAX_HEADER_BYTES = 2_000_000
_MAX_AXES = 8
_MAX_SIZE = 1 << 48  # bytes of memory that a processor can address
_NO_HEADER = "it must have a header, but it has {} bytes"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}


class Entry(NamedTuple):
    """A tensor that is to be written, described before it is there."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    """Gives the tensor when its turn has come; it is let go before the next one's."""

    @classmethod
    def of(cls, tensor: Tensor) -> "Entry":
        """Return the entry of a tensor that is there."""
        return cls(tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.dtype.itemsize * math.prod(self.shape)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the file of `tensor_file_parts`.

    Args:
        path: The file, overwritten if it exists; stage it with `atomic_file`.
        tensors: Tensors by name, on any device.
        metadata: Texts by name.

    Raises:
        OSError: If the file cannot be written. (The library's own writer raises another error.)
    """
    parts = tensor_file_parts(tensors, metadata)
    with path.open("wb") as file:
        for part in parts:
            file.write(part)


def tensor_file_parts(
    tensors: Mapping[str, Tensor | Entry], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Return the bytes of a safetensors file, its header and then one tensor after another.

    Mapped to memory, the tensors lie at multiples of 64 bytes where they can. The safetensors
    library aligns to 8 bytes only, and the processor's matrix products round otherwise for other
    alignments: a model would not give the same bits before and after it was saved. A tensor whose
    size is no multiple of 64 bytes moves what follows it, so of each width those come last.

    Args:
        tensors: Floating-point numbers or bytes by name, on any device. They must not change until
            their part was taken; one that is on the CPU and contiguous is not copied. An `Entry`
            is read when its turn comes, so that a file may be larger than the memory.
        metadata: Texts by name.

    Raises:
        KeyError: If a tensor is of a dtype that such a file cannot hold.
    """
    entries = {
        name: each if isinstance(each, Entry) else Entry.of(each) for name, each in tensors.items()
    }
    # Wider numbers first, so that no narrower ones put them where they cannot be addressed.
    ordered = sorted(
        entries,
        key=lambda name: (-entries[name].dtype.itemsize, entries[name].nbytes % ALIGNMENT > 0),
    )
    described: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in ordered:
        start, end = end, end + entries[name].nbytes
        described[name] = {
            "dtype": _DTYPES[entries[name].dtype],
            "shape": list(entries[name].shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(described, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    prefix = len(header).to_bytes(8, "little") + header
    return chain([prefix], _contents([entries[name] for name in ordered]))


def map_tensors(path: Path, *, writable: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, mapped to memory.

    The header is checked before anything is mapped for a tensor: each name comes once, each tensor
    has the bytes that its shape and dtype need, and together they are the rest of the file.

    Args:
        path: The file.
        writable: Whether the tensors may be written to, which the file never sees. Such a map
            counts as memory in use. Otherwise the file may be larger than the machine's memory, and
            to write to a tensor ends the process: they are to be read and let go.

    Raises:
        OSError: If the file cannot be read, or there is not the memory to map it.
        ValueError: If it is no whole safetensors file.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _LENGTH_BYTES:
            raise ValueError(_NO_HEADER.format(size))
        access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
        mapped = mmap.mmap(file.fileno(), 0, access=access)
    return _tensors(mapped, size)[0]


def tensors_of_bytes(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file that is in memory, and its metadata.

    It is checked as by `map_tensors`.

    Args:
        content: The file. The tensors share its memory, and must not be written to.

    Raises:
        ValueError: If it is no whole safetensors file.
    """
    if len(content) < _LENGTH_BYTES:
        raise ValueError(_NO_HEADER.format(len(content)))
    return _tensors(content, len(content))


def _tensors(mapped: "mmap.mmap | bytes", size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file, without a copy."""
    start = _LENGTH_BYTES + int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    if not _LENGTH_BYTES < start <= min(size, _MAX_HEADER_BYTES):
        raise ValueError(
            f"its header must end within the file and have at most {_MAX_HEADER_BYTES} bytes, but "
            f"it claims {start}"
        )
    entries, metadata = _header(mapped[_LENGTH_BYTES:start])
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
        if entry.begin != end:
            raise ValueError(f"{name!r:.80} must begin at byte {end}, but it does at {entry.begin}")
        end = entry.end
    if start + end != size:
        raise ValueError(f"its tensors must end at byte {size}, but they do at {start + end}")
    return {name: _mapped(mapped, start, entry) for name, entry in entries.items()}, metadata


class _Described(NamedTuple):
    """A tensor in a header: its numbers begin and end so many bytes after it."""

    dtype: torch.dtype
    shape: list[int]
    begin: int
    end: int


def _header(text: bytes) -> tuple[dict[str, _Described], dict[str, str]]:
    """Return the tensors that a header describes, by name, and its metadata."""
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header must describe tensors, as JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"its header must describe tensors, by name, but it is {entries!r:.40}")  # noqa: TRY004 (not of an argument)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(each) is not str for each in metadata.values()):
        raise ValueError(f"its `__metadata__` must be texts by name, but it is {metadata!r:.80}")
    return {name: _described(name, entry) for name, entry in entries.items()}, metadata


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the entries of a JSON object, as the hook of `json` that sees them all.

    Raises:
        ValueError: If a key comes twice: readers would not agree on which one counts.
    """
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"{key!r:.80} must come once, but it comes twice")
        entries[key] = value
    return entries


def _described(name: str, entry: Any) -> _Described:
    """Return an entry of a header, in which every number is one and fits the others."""
    dtypes = {name: dtype for dtype, name in _DTYPES.items()}
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r:.80} must have a dtype, a shape and data_offsets: {entry!r:.80}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    are_lists = isinstance(shape, list) and isinstance(offsets, list)
    fit = are_lists and len(shape) <= _MAX_AXES and len(offsets) == 2
    if not fit or any(type(n) is not int or not 0 <= n <= _MAX_SIZE for n in [*shape, *offsets]):
        raise ValueError(f"{name!r:.80} must have sizes and two offsets, but it has {entry!r:.120}")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in dtypes:
        raise ValueError(
            f"{name!r:.80} must be of one of {[*dtypes]}, but it is of {entry['dtype']!r:.20}"
        )
    described = _Described(dtypes[entry["dtype"]], shape, *offsets)
    if described.end - described.begin != math.prod(shape) * described.dtype.itemsize:
        raise ValueError(f"{name!r:.80} must lie within the bytes of its shape: {entry!r:.120}")
    return described


def _mapped(mapped: "mmap.mmap | bytes", start: int, entry: _Described) -> Tensor:
    """Return a tensor of a mapped file whose numbers begin at `start`."""
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=entry.dtype)
    with warnings.catch_warnings():  # that it cannot be written is what is wanted
        warnings.simplefilter("ignore", UserWarning)
        count = math.prod(entry.shape)
        flat = torch.frombuffer(mapped, dtype=entry.dtype, count=count, offset=start + entry.begin)
    return flat.view(entry.shape)


def tensor_bytes(entry: Entry) -> memoryview:
    """Return the bytes of a tensor's numbers, read now; they are copied only where they must be."""
    dense = entry.read().detach().cpu().contiguous()
    assert (dense.dtype, tuple(dense.shape)) == (entry.dtype, entry.shape)
    return dense.view(-1).view(torch.uint8).numpy().data


def _contents(entries: list[Entry]) -> Iterator[memoryview]:
    """Yield the bytes of each tensor, one at a time."""
    for entry in entries:
        yield tensor_bytes(entry)
