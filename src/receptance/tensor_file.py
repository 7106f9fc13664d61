"""Named tensors in a safetensors file."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

ALIGNMENT = 64

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the file of `tensor_file_parts`.

    Args:
        path: The file, overwritten if it exists; stage it with `atomic_file`.
        tensors: Floating-point tensors by name, on any device.
        metadata: Texts by name.

    Raises:
        OSError: If the file cannot be written. (The library's own writer raises another error.)
    """
    parts = tensor_file_parts(tensors, metadata)
    with path.open("wb") as file:
        for part in parts:
            file.write(part)


def tensor_file_parts(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Return the bytes of a safetensors file, its header and then one tensor after another.

    Mapped to memory, the tensors lie at multiples of 64 bytes where they can. The safetensors
    library aligns to 8 bytes only, and the processor's matrix products round otherwise for other
    alignments: a model would not give the same bits before and after it was saved. A tensor whose
    size is no multiple of 64 bytes moves what follows it; no published model has any.

    Args:
        tensors: Floating-point tensors by name, on any device. They must not change until their
            part was taken; one that is on the CPU and contiguous is not copied.
        metadata: Texts by name.

    Raises:
        KeyError: If a tensor is of a dtype that is not of floating point.
    """
    # Wider numbers first, so that no narrower ones put them where they cannot be addressed.
    names = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        entries[name] = {
            "dtype": _DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    return chain([len(header).to_bytes(8, "little") + header], _contents(tensors, names))


def _contents(tensors: Mapping[str, Tensor], names: list[str]) -> Iterator[memoryview]:
    """Yield the bytes of each tensor; one at a time is copied, where it must be."""
    for name in names:
        dense = tensors[name].detach().cpu().contiguous()
        yield dense.view(-1).view(torch.uint8).numpy().data
