"""Named tensors in a safetensors file."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 64

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


def _contents(entries: list[Entry]) -> Iterator[memoryview]:
    """Yield the bytes of each tensor; one at a time is copied, where it must be."""
    for entry in entries:
        dense = entry.read().detach().cpu().contiguous()
        assert (dense.dtype, tuple(dense.shape)) == (entry.dtype, entry.shape)
        yield dense.view(-1).view(torch.uint8).numpy().data
        del dense


def _entry_of(tensor: Tensor) -> Entry:
    return Entry(tensor.dtype, tuple(tensor.shape), lambda: tensor)
