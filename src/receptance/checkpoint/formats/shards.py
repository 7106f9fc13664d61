"""Weights in parts, as the ranks of a sharded run write them into its checkpoints.

Each rank has a file of safetensors, whose metadata says where in the whole tensors its parts begin.
The form is that of PyTorch's `torch.distributed.checkpoint.HuggingFaceStorageWriter`.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from receptance.errors import CheckpointError
from receptance.tensor_file import map_tensors

SHARDS = "shard-*.safetensors"


def read_shards(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Return the whole tensors whose parts are in files, by name.

    Raises:
        CheckpointError: If a file is damaged, or the parts of a tensor do not make a whole.
    """
    parts: dict[str, list[tuple[list[int], Tensor]]] = {}
    for path in paths:
        try:
            map_tensors(path)  # checks the header, of which the library checks less
            with safe_open(path, framework="pt") as file:
                offsets = json.loads((file.metadata() or {})["DCP_SHARDING_INFO"])
                for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                    part = file.get_tensor(name)
                    parts.setdefault(name, []).append((_begin(offsets[name], part), part))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{str(path)!r} must be a safetensors file that says where its parts begin, but it "
                f"is not: {error!r}"
            ) from error
    return {name: _joined(name, each) for name, each in parts.items()}


def _begin(entry: Any, part: Tensor) -> list[int]:
    """Return where a part begins on each axis."""
    begin = entry["saved_offsets"]
    if len(begin) != part.ndim or not all(type(each) is int and each >= 0 for each in begin):
        raise ValueError(f"a part with {part.ndim} axes begins at {begin!r}")
    return begin


def _joined(name: str, parts: list[tuple[list[int], Tensor]]) -> Tensor:
    """Return the tensor that parts make."""
    first = parts[0][1]
    if any((part.ndim, part.dtype) != (first.ndim, first.dtype) for _, part in parts):
        raise CheckpointError(f"the parts of {name!r:.80} must be of one kind, but they are not")
    places = [
        tuple(slice(at, at + size) for at, size in zip(begin, part.shape, strict=True))
        for begin, part in parts
    ]
    shape = [max(place[axis].stop for place in places) for axis in range(first.ndim)]
    if math.prod(shape) != sum(part.numel() for _, part in parts):
        raise CheckpointError(
            f"the parts of {name!r} must make a tensor of the shape {shape}, but they do not; is a "
            "shard missing?"
        )
    whole = torch.empty(shape, dtype=first.dtype)
    is_filled = torch.zeros(shape, dtype=torch.bool)
    for place, (_, part) in zip(places, parts, strict=True):
        whole[place] = part
        is_filled[place] = True
    if not bool(is_filled.all()):
        raise CheckpointError(f"the parts of {name!r} must not overlap, but they do")
    return whole
