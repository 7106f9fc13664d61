"""The model folder, which `train` writes and every verb reads.

config.json                 format, format_version, architecture, sizes, quantization
model.safetensors           the weights, by the authors' names
tokenizer.json or rwkv_vocab_v20230424.txt    the tokenizer's own file; none for bytes
initial_state.safetensors   optional: the state from which the model starts by default
"""

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from receptance.atomic import atomic_folder
from receptance.checkpoint.files.json_file import read_json
from receptance.checkpoint.formats.shards import SHARDS, read_shards
from receptance.checkpoint.schema import check_weights, too_large
from receptance.checkpoint.stored import StoredModel
from receptance.errors import CheckpointError, ConfigError
from receptance.models import (
    RWKV4,
    RWKV4Config,
    State,
    config_from_dict,
    config_to_dict,
    require_unchanged,
)
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import quantization
from receptance.tensor_file import Entry, map_tensors, tensor_file_parts
from receptance.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INITIAL_STATE_FILE = "initial_state.safetensors"

FORMAT = "receptance"
FORMAT_VERSION = 1


def save_model(
    model: RWKV4,
    tokenizer: Tokenizer | None,
    folder: str | Path,
    *,
    replace: bool = False,
    initial_state: State | None = None,
) -> None:
    """Write a model folder, whole or not at all, with the weights in the dtypes they have.

    Args:
        model: The model, on any device.
        tokenizer: Its tokenizer, whose file is written too; None if there is none.
        folder: The destination. Its parent must exist.
        replace: Whether a folder already there is replaced.
        initial_state: The state of one sequence from which it starts by default; None is the zero
            state.

    Raises:
        CheckpointError: If a weight is not finite or is of a dtype that no checkpoint has, or the
            tokenizer has more ids than the model's vocabulary.
        ValueError: If the model has changes beside its weights, an adapter that is not merged.
        FileExistsError: If `folder` exists and `replace` is false.
        OSError: If it cannot be written.
    """
    require_unchanged(model, "to be saved")
    folder = Path(folder)
    weights = {
        name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()
    }
    check_weights(folder / WEIGHTS_FILE, model, weights)
    if tokenizer is not None:
        check_vocabulary(folder, tokenizer, model.config)
    with atomic_folder(folder, replace=replace) as staged:
        write_files(staged, model.config, weights, quantization(model))
        if tokenizer is not None:
            tokenizer.save(staged)
        if initial_state is not None:
            initial_state.save(staged / INITIAL_STATE_FILE, model.fingerprint())


def write_files(
    folder: Path,
    config: RWKV4Config,
    weights: Mapping[str, Tensor | Entry],
    quantization: QuantizedFormat | None = None,
) -> None:
    """Write the files of `model_files` into `folder`."""
    for name, parts in model_files(config, weights, quantization).items():
        with (folder / name).open("wb") as file:
            file.writelines(parts)


def model_files(
    config: RWKV4Config,
    weights: Mapping[str, Tensor | Entry],
    quantization: QuantizedFormat | None = None,
) -> dict[str, Iterable[bytes | memoryview]]:
    """Return the files of a model folder by name, each as the parts of its bytes.

    The tokenizer's is not among them.

    Args:
        config: The sizes of the model.
        weights: Its parameters by name, which `check_weights` has passed, or how to read them one
            at a time. They must not change until their file was written.
        quantization: The format of its matrices; None for a plain model.
    """
    header = {"format": FORMAT, "format_version": FORMAT_VERSION}
    how = None if quantization is None else asdict(quantization)
    entries = {**header, **config_to_dict(config), "quantization": how}
    text = json.dumps(entries, indent=2) + "\n"
    return {CONFIG_FILE: [text.encode()], WEIGHTS_FILE: tensor_file_parts(weights)}


def read_folder(folder: Path) -> StoredModel:
    """Return what a model folder holds; the weights are memory-mapped and not yet checked.

    Weights may also be there in the parts of several ranks; they are then put together in memory.

    Raises:
        CheckpointError: If a file is missing, damaged, or of a format that this version lacks.
    """
    config, quantization = _read_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file() and (shards := sorted(folder.glob(SHARDS))):
        whole = {name: Entry.of(weight) for name, weight in read_shards(shards).items()}
        return StoredModel(
            *("native", folder, path, config, quantization), lambda: whole, lambda: whole
        )
    if not path.is_file():
        raise CheckpointError(
            f"a model folder must hold {WEIGHTS_FILE!r}, but {str(folder)!r} holds "
            f"{list_names(folder)}"
        )
    open_weights = partial(map_weights, path, writable=True)
    return StoredModel(
        *("native", folder, path, config, quantization), open_weights, partial(map_weights, path)
    )


def map_weights(path: Path, *, writable: bool = False) -> dict[str, Entry]:
    """Return the tensors of a safetensors file, memory-mapped as `map_tensors` does it.

    Raises:
        CheckpointError: If it is no whole safetensors file, or larger than the memory.
        OSError: If it cannot be read.
    """
    try:
        tensors = map_tensors(path, writable=writable)
    except ValueError as error:
        raise CheckpointError(
            f"{str(path)!r} must be a whole safetensors file, but it is not: {error}"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise CheckpointError(too_large(path)) from error
        raise OSError(error.errno, error.strerror, str(path)) from error  # a map's names no file
    return {name: Entry.of(tensor) for name, tensor in tensors.items()}


def check_vocabulary(path: Path, tokenizer: Tokenizer, config: RWKV4Config) -> None:
    """Raise a CheckpointError if the tokenizer has ids that the model does not know."""
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer of {str(path)!r} must have at most the {config.vocab_size} ids of the "
            f"model's vocabulary, but {tokenizer.name!r} has {tokenizer.vocab_size}; pass the "
            "model's own as `tokenizer`"
        )


def list_names(folder: Path) -> list[str]:
    """Return the first names in a folder, for a message."""
    return sorted(entry.name for entry in folder.iterdir())[:12]


def _read_config(folder: Path) -> tuple[RWKV4Config, QuantizedFormat | None]:
    path = folder / CONFIG_FILE
    entries = read_json(path)
    _check_header(path, entries)
    sizes = {k: v for k, v in entries.items() if k not in ("format", "format_version")}
    quantization = _read_quantization(path, sizes.pop("quantization", None))
    try:
        return config_from_dict(sizes), quantization
    except ConfigError as error:
        raise CheckpointError(f"{str(path)!r}: {error}") from error


def _read_quantization(path: Path, entry: object) -> QuantizedFormat | None:
    """Return the format that an entry of a config.json names."""
    if entry is None:
        return None
    names = [field.name for field in fields(QuantizedFormat)]
    if not isinstance(entry, dict) or sorted(entry) != sorted(names):
        raise CheckpointError(
            f"`quantization` in {str(path)!r} must be null or have the entries {names}, got "
            f"{entry!r:.80}; was it written by a later version of receptance?"
        )
    try:
        return QuantizedFormat(**entry)
    except ValueError as error:
        raise CheckpointError(f"`quantization` in {str(path)!r}: {error}") from error


def _check_header(path: Path, entries: dict[str, Any]) -> None:
    """Raise a CheckpointError unless this is our format, in a version and encoding we read."""
    found = entries.get("format")
    if found != FORMAT:
        raise CheckpointError(f"`format` in {str(path)!r} must be {FORMAT!r}, got {found!r:.60}")
    version = entries.get("format_version")
    if version != FORMAT_VERSION or type(version) is not int:
        raise CheckpointError(
            f"`format_version` in {str(path)!r} must be {FORMAT_VERSION}, got {version!r:.60}; was "
            "it written by a later version of receptance?"
        )
