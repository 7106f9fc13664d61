"""The authors' checkpoints of RWKV-4: a .pth file with the parameters by name.

A .pth file is a zip of a pickle and of raw numbers, and a pickle can run any code. It is read by
PyTorch's restricted unpickler alone, which knows tensors and nothing that acts, and only after
the zip was found to hold its numbers as they are: a compressed zip could unfold without end, and
memory mapping would take its compressed bytes for weights.
"""

import re
import struct
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from receptance.checkpoint.schema import shorten
from receptance.checkpoint.stored import StoredModel
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config

SUFFIX = ".pth"

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
    RuntimeError,
    TypeError,
    ValueError,
)

# A parameter of each relative of RWKV-4, the latest version first, by the end of its name.
_RELATIVES = {
    "att.r_k": "an RWKV-7",
    "att.time_maa_w1": "an RWKV-6",
    "att.time_maa_k": "an RWKV-6",
    "att.ln_x.weight": "an RWKV-5",
    "att.time_faaaa": "an RWKV-5",
    "tiny_q.weight": "an RWKV-4a or 4b",
    "head_q.weight": "an RWKV-4 with the copy head of 2021",
}
_BLOCK = re.compile(r"blocks\.(0|[1-9][0-9]{0,5})\.(.+)")
_TENSORS_OF_A_BLOCK = {
    *(f"{norm}.{kind}" for norm in ("ln0", "ln1", "ln2") for kind in ("weight", "bias")),
    *(f"att.{name}" for name in ("time_decay", "time_first")),
    *(
        f"{part}.time_mix_{name}"
        for part, names in (("att", "kvr"), ("ffn", "kr"))
        for name in names
    ),
    *(f"att.{name}.weight" for name in ("key", "value", "receptance", "output")),
    *(f"ffn.{name}.weight" for name in ("key", "value", "receptance")),
}
_TENSORS_OUTSIDE = {"emb.weight", "ln_out.weight", "ln_out.bias", "head.weight"}


def read_pth(path: Path) -> StoredModel:
    """Return what an authors' file holds; the weights are memory-mapped and not yet checked.

    Raises:
        CheckpointError: If the file is damaged, is not what `torch.save` writes, holds anything
            but tensors, or is not an RWKV-4 as its authors release it.
    """
    _check_zip(path)
    weights = _map_weights(path)
    _check_version(path, weights)
    # Mapped anew when it is used, so that nothing stays in memory that nobody holds.
    return StoredModel(
        *("official", path, path, _sizes(path, weights), None),
        *(partial(_map_weights, path), partial(_map_weights, path)),
    )


def _map_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, memory-mapped."""
    try:
        loaded = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{str(path)!r} must hold tensors and nothing else, whole, but PyTorch refuses it: "
            f"{_reason(error)}"
        ) from error
    return _check_tensors(path, loaded)


def _check_zip(path: Path) -> None:
    """Raise a CheckpointError unless the file is a zip which stores all it holds as it is."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, *_UNREADABLE) as error:
        raise CheckpointError(
            f"{str(path)!r} must be a zip, as `torch.save` writes it since 2020, but it is not, or "
            f"is cut short: {_reason(error)}"
        ) from error
    for entry in entries:
        is_stored = entry.compress_type == zipfile.ZIP_STORED
        if not is_stored or entry.compress_size != entry.file_size:
            raise CheckpointError(
                f"{entry.filename!r} in {str(path)!r} must be stored as it is, but it is "
                "compressed; load the file in PyTorch where you trust it and save it again"
            )
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise CheckpointError(
            f"the parts of {str(path)!r} must fit in its {size} bytes, but they claim {total}"
        )


def _check_tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    """Return `loaded` if it is plain tensors by name, of no more bytes than the file."""
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{str(path)!r} must hold tensors by name, but it holds {type(loaded).__name__!r}"
        )
    weights: dict[str, Tensor] = {}
    for name, tensor in loaded.items():
        is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
        if not isinstance(name, str) or not is_plain or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{name!r:.80} in {str(path)!r} must be a tensor, but it is "
                f"{type(tensor).__name__!r}; is it a checkpoint of a training run?"
            )
        # Strides can claim a tensor far larger than its storage.
        if not tensor.is_contiguous():
            raise CheckpointError(f"{name!r} in {str(path)!r} must be contiguous, but it is not")
        weights[name] = tensor.detach()
    claimed, size = sum(weight.nbytes for weight in weights.values()), path.stat().st_size
    if claimed > size:
        raise CheckpointError(
            f"the tensors of {str(path)!r} must fit in its {size} bytes, but they claim {claimed}"
        )
    return weights


def _check_version(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError if the names are those of another model."""
    unknown = [name for name in weights if not _is_of_rwkv4(name)]
    if unknown:
        found = (what for end, what in _RELATIVES.items() if any(n.endswith(end) for n in unknown))
        raise CheckpointError(
            f"{str(path)!r} must be an RWKV-4, but it is {next(found, 'something else')}: RWKV-4 "
            f"has no {shorten(unknown)}"
        )
    if "emb.weight" not in weights or weights["emb.weight"].ndim != 2:
        raise CheckpointError(
            f"{str(path)!r} must be an RWKV-4, but it has no matrix 'emb.weight'; it holds "
            f"{shorten(list(weights))}"
        )
    if "blocks.0.ln0.weight" not in weights and "blocks.0.ln1.weight" in weights:
        raise CheckpointError(
            f"{str(path)!r} must hold 'blocks.0.ln0.weight', but it does not: it was converted, "
            "with that norm folded into its embedding; load the authors' original file"
        )


def _is_of_rwkv4(name: str) -> bool:
    block = _BLOCK.fullmatch(name)
    return name in _TENSORS_OUTSIDE if block is None else block[2] in _TENSORS_OF_A_BLOCK


def _sizes(path: Path, weights: Mapping[str, Tensor]) -> RWKV4Config:
    """Return the sizes that the shapes and names tell."""
    layers = [int(block[1]) for block in map(_BLOCK.fullmatch, weights) if block]
    vocab_size, n_embd = weights["emb.weight"].shape
    if not layers or vocab_size == 0 or n_embd == 0:
        raise CheckpointError(
            f"{str(path)!r} must hold layers and a vocabulary, but it holds "
            f"{len(set(layers))} layers and 'emb.weight' of {[vocab_size, n_embd]}"
        )
    return RWKV4Config(n_layer=max(layers) + 1, n_embd=n_embd, vocab_size=vocab_size)


def _reason(error: BaseException) -> str:
    """Return what is wrong, in one line.

    PyTorch's own first line tells how to load the file all the same, so that what is hidden in it
    runs: advice that no message about a hostile file may pass on.
    """
    refused = re.search(r"[Uu]nsupported (?:global: )?(GLOBAL \S+|operand \d+)", str(error))
    if refused:
        return f"it asks for {refused[1]}"
    lines = str(error).strip().splitlines()
    is_advice = not lines or "weights" in lines[0].lower()
    return type(error).__name__ if is_advice else lines[0]
