"""What the `rwkv` package makes of an authors' file to load it faster: its `convert_model`.

The same model otherwise laid out: the first norm is folded into the embedding, matrices are
transposed, log_w = -exp(time_decay) stands in the place of time_decay, and for float16 the matrices
that write to the stream are divided by 2 in every so many layers. All but the norm is undone here.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from receptance.checkpoint.formats.log_decay import time_decay_of
from receptance.checkpoint.versions import layer_of
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry

STRATEGY = "_strategy"

_VERSIONS = ("0.7",)
_ENTRIES = {STRATEGY: str, "_version": str, "_rescale_layer": int}
_HALVED = ("att.output.weight", "ffn.value.weight")
_MOST_HALVINGS = 100  # of a file that lies; its numbers then are not finite


def restored(
    path: Path, tensors: Mapping[str, Entry], others: Mapping[str, str | int | float | bool]
) -> dict[str, Entry]:
    """Return the parameters of a converted file as the authors have them, but for ln0.

    Args:
        path: The file, for messages.
        tensors: Its tensors by name.
        others: What else it holds: the strategy that it was converted for, the converter's version,
            and in how many layers matrices are halved once, 0 being never.

    Raises:
        CheckpointError: If it was converted to 8 bits, or by another version. Reading a decay
            raises it if that cannot be one.
    """
    for name, kind in _ENTRIES.items():
        if type(others.get(name)) is not kind or others.keys() != _ENTRIES.keys():
            raise CheckpointError(
                f"{str(path)!r} must hold {[*_ENTRIES]} beside its tensors, as the `rwkv` package "
                f"writes them, but it holds {str(dict(others))[:120]}"
            )
    if others["_version"] not in _VERSIONS:
        raise CheckpointError(
            f"{str(path)!r} must have been converted by the `rwkv` package's converter of version "
            f"{_VERSIONS[0]}, but it was by {others['_version']!r:.20}; load the original file"
        )
    if any(name.endswith("_mx") for name in tensors):
        raise CheckpointError(
            f"{str(path)!r} must hold matrices of floating-point numbers, but it was converted to "
            f"8 bits by the `rwkv` package, for the strategy {others[STRATEGY]!r:.80}; load the "
            "original file (`quantize` rounds it better)"
        )
    every = int(others["_rescale_layer"])
    return {name: _restored(path, name, entry, every) for name, entry in tensors.items()}


def _restored(path: Path, name: str, entry: Entry, every: int) -> Entry:
    """Return the entry of a parameter as the authors have it."""
    layer = layer_of(name) or 0
    if name.endswith("att.time_decay"):
        return Entry(torch.float32, entry.shape, lambda: time_decay_of(path, name, entry.read()))
    if ".time_mix_" in name and len(entry.shape) == 1:
        return Entry(entry.dtype, (1, 1, *entry.shape), lambda: entry.read()[None, None])
    if len(entry.shape) != 2 or name == "emb.weight":
        return entry
    halvings = layer // every if every > 0 and name.endswith(_HALVED) else 0
    return Entry(
        entry.dtype, entry.shape[::-1], partial(_turned, entry, min(halvings, _MOST_HALVINGS))
    )


def _turned(entry: Entry, halvings: int) -> Tensor:
    """Return the transpose of a matrix, doubled as often as it was halved."""
    turned = entry.read().T.contiguous()
    # What float16 lost below its least number when it was halved stays lost.
    return turned * 2.0**halvings if halvings else turned
