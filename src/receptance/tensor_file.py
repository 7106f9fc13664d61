"""Named tensors in a safetensors file."""

import json
from collections.abc import Mapping
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
    """Write tensors so that, mapped to memory, they lie at multiples of 64 bytes where they can.

    The safetensors library aligns to 8 bytes only, and the processor's matrix products round
    otherwise for other alignments: a model would not give the same bits before and after it was
    saved. A tensor whose size is no multiple of 64 bytes moves what follows it; no published model
    has any.

    Args:
        path: The file, overwritten if it exists; stage it with `atomic_file`.
        tensors: Floating-point tensors by name, on any device.
        metadata: Texts by name.

    Raises:
        OSError: If the file cannot be written. (The library's own writer raises another error.)
    """
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Wider numbers first, so that no narrower ones put them where they cannot be addressed.
    names = sorted(dense, key=lambda name: -dense[name].itemsize)
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in names:
        start, end = end, end + dense[name].nbytes
        entries[name] = {
            "dtype": _DTYPES[dense[name].dtype],
            "shape": list(dense[name].shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            file.write(dense[name].view(-1).view(torch.uint8).numpy().data)
