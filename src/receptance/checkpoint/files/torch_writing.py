"""A file as `torch.save` writes it, one tensor at a time: it may be larger than the memory.

`torch.save` itself wants all tensors at once. The file is a zip, in which nothing is compressed, of
a pickle that describes the tensors and of one part for each one's numbers.
"""

import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import Pickler
from typing import Any, NamedTuple

import torch
from torch._utils import _rebuild_tensor_v2  # how the format itself calls it

from receptance.tensor_file import ALIGNMENT, Entry, tensor_bytes

_PREFIX = "archive"
_VERSION = b"3\n"  # of the layout, as PyTorch has it since 1.6
_STORAGES = {
    torch.float32: torch.FloatStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.float16: torch.HalfStorage,
}
_LOCAL_HEADER_BYTES = 30
_ZIP64_BYTES = 20  # what a header says of parts of more than 4 GB
_PADDING = b"FB"  # the mark that PyTorch gives to bytes which only move what follows


class _Numbers(NamedTuple):
    """The part of the zip that holds a tensor's numbers."""

    key: str
    entry: Entry


class _Described(NamedTuple):
    """A tensor that is described and not there."""

    numbers: _Numbers


class _Describer(Pickler):
    """Writes descriptions as the tensors that PyTorch will make of them."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how PyTorch rebuilds a tensor: from its numbers, its shape and its strides."""
        if not isinstance(obj, _Described):
            return NotImplemented
        shape = obj.numbers.entry.shape
        strides = torch.empty(shape, device="meta").stride()
        arguments = (obj.numbers, 0, shape, strides, False, OrderedDict())
        return _rebuild_tensor_v2, arguments

    def persistent_id(self, obj: Any) -> Any:
        """Return the name of the part of the zip that a tensor's numbers are in."""
        if not isinstance(obj, _Numbers):
            return None
        storage, key = _STORAGES[obj.entry.dtype], obj.key
        return "storage", storage, key, "cpu", obj.entry.nbytes // obj.entry.dtype.itemsize


def write_torch_file(path: Path, tensors: Mapping[str, Entry]) -> None:
    """Write tensors by name, in order, as `torch.load` reads them, mapped to memory or not.

    Args:
        path: The file, overwritten if it exists; stage it with `atomic_file`.
        tensors: Of float32, bfloat16 or float16. One is in memory at a time.

    Raises:
        OSError: If it cannot be written.
    """
    parts = {name: _Numbers(str(key), entry) for key, (name, entry) in enumerate(tensors.items())}
    described = BytesIO()
    _Describer(described, protocol=2).dump({name: _Described(part) for name, part in parts.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, "data.pkl", described.getvalue())
        _write(archive, "byteorder", sys.byteorder.encode())
        for part in parts.values():
            _write(archive, f"data/{part.key}", tensor_bytes(part.entry))
        _write(archive, "version", _VERSION)


def _write(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    """Write a part of the zip so that its content begins at a multiple of 64 bytes."""
    part = zipfile.ZipInfo(f"{_PREFIX}/{name}")  # of 1980: the same tensors give the same file
    assert archive.fp is not None
    header = _LOCAL_HEADER_BYTES + len(part.filename) + _ZIP64_BYTES + len(_PADDING) + 2
    padding = -(archive.fp.tell() + header) % ALIGNMENT
    part.extra = _PADDING + padding.to_bytes(2, "little") + b"Z" * padding
    with archive.open(part, "w", force_zip64=True) as file:
        file.write(content)
