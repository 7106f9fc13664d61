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
_MAX_HEADER_BYTES = 100_000_000  # as the library has it

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
        name: each if isinstance(each, Entry) else _entry_of(each) for name, each in tensors.items()
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


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, mapped to memory that cannot be written.

    Unlike what the library maps, which may be written and so counts as memory in use, a file may be
    larger than the machine's memory. To write to these tensors ends the process: they are to be
    read and let go.

    Args:
        path: The file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no whole safetensors file.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _LENGTH_BYTES:
            raise ValueError(f"it must have a header, but it has {size} bytes")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = _LENGTH_BYTES + int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    if not _LENGTH_BYTES < start <= size or start > _MAX_HEADER_BYTES:
        raise ValueError(f"its header must end within the file, but it has {start} bytes")
    try:
        entries = json.loads(mapped[_LENGTH_BYTES:start])
        entries.pop("__metadata__", None)
        return {name: _mapped(mapped, start, entry) for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header must describe tensors: {error!r}") from error


def _mapped(mapped: mmap.mmap, start: int, entry: dict[str, Any]) -> Tensor:
    """Return a tensor of a mapped file whose numbers begin at `start`."""
    dtype = {name: dtype for dtype, name in _DTYPES.items()}[entry["dtype"]]
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    count = math.prod(shape)
    whole = 0 <= begin <= end <= len(mapped) - start and min(shape, default=1) >= 1
    if not whole or end - begin != count * dtype.itemsize:
        raise ValueError(f"a tensor must lie within the file, but one is {entry}")
    with warnings.catch_warnings():  # that it cannot be written is what is wanted
        warnings.simplefilter("ignore", UserWarning)
        flat = torch.frombuffer(mapped, dtype=dtype, count=count, offset=start + begin)
    return flat.view(shape)


def _contents(entries: list[Entry]) -> Iterator[memoryview]:
    """Yield the bytes of each tensor; one at a time is copied, where it must be."""
    for entry in entries:
        dense = entry.read().detach().cpu().contiguous()
        assert (dense.dtype, tuple(dense.shape)) == (entry.dtype, entry.shape)
        yield dense.view(-1).view(torch.uint8).numpy().data
        del dense


def _entry_of(tensor: Tensor) -> Entry:
    return Entry(tensor.dtype, tuple(tensor.shape), lambda: tensor)
