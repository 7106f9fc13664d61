"""Tensors in a file of `torch.save`: the one place where a pickle is read.

Such a file is a zip of a pickle and of raw numbers, and a pickle can run any code. It is read by
PyTorch's restricted unpickler alone, which knows tensors and nothing that acts, and only after the
zip was found to hold its numbers as they are: a compressed zip could unfold without end, and memory
mapping would take its compressed bytes for weights. What the pickle claims of its tensors is
compared with the zip before any number is looked at.
"""

import errno
import mmap
import os
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from receptance.checkpoint.files.torch_zip import UNREADABLE, Records, check_zip, reason
from receptance.checkpoint.schema import too_large
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry

_PLAIN = (str, int, float, bool)


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


def refuse_others(path: Path, others: Mapping[str, str | int | float | bool]) -> None:
    """Raise a CheckpointError if a file holds more than tensors."""
    if others:
        name, value = next(iter(others.items()))
        raise CheckpointError(
            f"{name!r:.80} in {str(path)!r} must be a tensor, but it is {value!r:.80}"
        )


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
    records = check_zip(path)
    # On this device tensors have shapes and no memory, so a lie about a size costs nothing.
    tensors, others = _parted(path, _load(path, device="meta"))
    places = {name: _place(path, name, tensor, records) for name, tensor in tensors.items()}
    _check_total(path, tensors, records)
    return _Described(tensors, places, others)


def _load(path: Path, *, device: str) -> object:
    """Return what the restricted unpickler makes of a file."""
    try:
        with warnings.catch_warnings():  # of a damaged pickle's protocol, which is then refused
            warnings.simplefilter("ignore", UserWarning)
            # On "meta" no number is read, and a map of all could be more than the memory.
            mapped = device != "meta"
            return torch.load(path, weights_only=True, mmap=mapped, map_location=device)
    except (*UNREADABLE, RecursionError) as error:
        if isinstance(error, MemoryError) or os.strerror(errno.ENOMEM) in str(error):
            raise CheckpointError(too_large(path)) from error
        raise CheckpointError(
            f"{str(path)!r} must hold tensors and nothing else, whole, but PyTorch refuses it: "
            f"{reason(error)}"
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


def _place(path: Path, name: str, tensor: Tensor, records: Records) -> int:
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


def _check_total(path: Path, tensors: Mapping[str, Tensor], records: Records) -> None:
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
