"""The weight files of a Hugging Face folder: one file, or shards and an index of their tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from receptance.checkpoint.files.json_file import read_json, write_json
from receptance.checkpoint.files.torch_file import map_torch_file, refuse_others
from receptance.checkpoint.formats.native import map_weights
from receptance.checkpoint.schema import shorten
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry, tensor_file_parts

SAFETENSORS = "model.safetensors"
BIN = "pytorch_model.bin"
_INDEX_SUFFIX = ".index.json"

# In the order in which `transformers` looks for them.
_WEIGHTS = (SAFETENSORS, SAFETENSORS + _INDEX_SUFFIX, BIN, BIN + _INDEX_SUFFIX)

_MAX_NAME_BYTES = 255  # beyond which file systems do not look, but fail


@dataclass(frozen=True)
class WeightFiles:
    """Which files hold the weights, and what an index says is in each."""

    path: Path
    """The one file, or the index, for messages."""
    shards: Mapping[Path, frozenset[str] | None]
    """The names of the tensors in each file; None where no index tells."""


def find_weights(folder: Path) -> WeightFiles:
    """Return the weight files of a folder, an index being checked and no weight read.

    Raises:
        CheckpointError: If there are none, or the index is damaged, leads out of the folder or
            names files that are missing.
    """
    found = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if not found:
        names = sorted(entry.name for entry in folder.iterdir())
        raise CheckpointError(
            f"a Hugging Face folder must hold one of {list(_WEIGHTS)}, but {str(folder)!r} holds "
            f"{shorten(names)}; was it downloaded whole?"
        )
    path = found[0]
    return WeightFiles(path, _indexed(path) if path.suffix == ".json" else {path: None})


def open_weights(files: WeightFiles, *, read_only: bool) -> dict[str, Entry]:
    """Describe the tensors of all files by their names there, each mapped to memory.

    Args:
        files: What `find_weights` found.
        read_only: Whether they are only read, and may be more than fit in memory. What is not is
            each file's own copy on writing, and so is every opening's.

    Raises:
        CheckpointError: If a file is damaged, or does not hold what the index says.
        OSError: If a file cannot be read.
    """
    entries: dict[str, Entry] = {}
    for path, names in files.shards.items():
        opened = _open_file(path, read_only=read_only)
        if names is not None and opened.keys() != names:
            missing, unknown = sorted(names - opened.keys()), sorted(opened.keys() - names)
            raise CheckpointError(
                f"{str(path)!r} must hold the tensors that {files.path.name!r} says are in it: "
                f"missing {shorten(missing)}, not in the index {shorten(unknown)}; are both of the "
                "same model, and whole?"
            )
        entries |= opened
    return entries


def write_weights(folder: Path, tensors: Mapping[str, Entry], max_shard_bytes: int) -> None:
    """Write one safetensors file, or shards of it and their index, one tensor at a time.

    Args:
        folder: An existing folder.
        tensors: The tensors, by the names that they shall have.
        max_shard_bytes: What a shard holds at most, unless one tensor alone is larger.

    Raises:
        OSError: If a file cannot be written.
    """
    shards = _sharded(tensors, max_shard_bytes)
    total_size = sum(entry.nbytes for entry in tensors.values())
    if len(shards) == 1:
        _write_file(folder / SAFETENSORS, shards[0])
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(folder / name, shard)
        weight_map |= dict.fromkeys(shard, name)
    write_json(
        folder / (SAFETENSORS + _INDEX_SUFFIX),
        {"metadata": {"total_size": total_size}, "weight_map": weight_map},
    )


def _indexed(path: Path) -> dict[Path, frozenset[str] | None]:
    """Return which tensors an index says are in which file of its folder."""
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"`weight_map` in {str(path)!r} must name the file of each tensor, but it is "
            f"{weight_map!r:.60}"
        )
    tensors: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise CheckpointError(
                f"{name!r:.80} in {str(path)!r} must be in a file of this folder, named without a "
                f"path, but it is in {shard!r:.80}"
            )
        tensors.setdefault(shard, set()).add(name)
    missing = sorted(shard for shard in tensors if not (path.parent / shard).is_file())
    if missing:
        raise CheckpointError(
            f"{str(path.parent)!r} must hold the {len(tensors)} files that {path.name!r} names, "
            f"but {shorten(missing)} are missing; download them"
        )
    return {path.parent / shard: frozenset(names) for shard, names in sorted(tensors.items())}


def _is_plain(name: str) -> bool:
    """Return whether a name can be that of a file in the folder at hand, on any system."""
    has_length = 0 < len(name.encode(errors="replace")) <= _MAX_NAME_BYTES
    return has_length and name not in (".", "..") and not set(name) & set("/\\:\0")


def _open_file(path: Path, *, read_only: bool) -> dict[str, Entry]:
    """Describe the tensors of one file."""
    if path.suffix == ".safetensors":
        return map_weights(path, writable=not read_only)
    tensors, others = map_torch_file(path, read_only=read_only)
    refuse_others(path, others)
    return tensors


def _sharded(tensors: Mapping[str, Entry], max_bytes: int) -> list[dict[str, Entry]]:
    """Return the tensors in order, cut into parts of at most `max_bytes` or of one tensor."""
    shards: list[dict[str, Entry]] = [{}]
    free = max_bytes
    for name, entry in tensors.items():
        if shards[-1] and entry.nbytes > free:
            shards.append({})
            free = max_bytes
        shards[-1][name] = entry
        free -= entry.nbytes
    return shards


def _write_file(path: Path, tensors: Mapping[str, Entry]) -> None:
    with path.open("wb") as file:
        file.writelines(tensor_file_parts(tensors, {"format": "pt"}))
