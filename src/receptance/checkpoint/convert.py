"""Any checkpoint that this version reads into any format, one tensor at a time."""

import errno
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from receptance.atomic import atomic_file, atomic_folder
from receptance.checkpoint.adapter import adapted
from receptance.checkpoint.formats import ggml, huggingface, official
from receptance.checkpoint.formats.huggingface import SETTINGS as HUGGINGFACE_SETTINGS
from receptance.checkpoint.formats.native import CONFIG_FILE, INITIAL_STATE_FILE, write_files
from receptance.checkpoint.load import check_precision, find_model, initial_state
from receptance.checkpoint.schema import check_has_ln0
from receptance.checkpoint.stored import (
    ConvertedTensors,
    StoredModel,
    main_dtype,
    plain_tensors,
)
from receptance.checkpoint.targets import Wanted
from receptance.checkpoint.tokenizers import find_tokenizer, lies_in, missing_tokenizer
from receptance.errors import TokenizerError
from receptance.quantization import Importance, format_named, input_importance
from receptance.tensor_file import Entry
from receptance.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# A text's first tokens tell which inputs are large; more of them change the third digit.
_CALIBRATION_TOKENS = 1 << 15
_CALIBRATION_BATCH = (8, 256)

# In float16 the stream of a large model overflows, unless it is halved every so many layers.
# Elsewhere that would only change the last digits.
_RESCALE_EVERY_OF_HALVES = 6

Progress = Callable[[int, int], None]
"""Told how many bytes are read to be written, and of how many, tensor by tensor."""

_Watch = Callable[[Mapping[str, Entry]], dict[str, Entry]]


def convert_model(
    source: str | Path,
    destination: str | Path,
    *,
    to: str = "native",
    dtype: str | None = None,
    quantize: str | None = None,
    calibration: str | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
    adapter: str | Path | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the model at `source` in a format, whole or not at all.

    One tensor at a time is in memory, unless there is a calibration text, which the whole model
    reads. A model folder holds what `save_model` would write of `load_checkpoint`'s model, byte for
    byte. Other formats hold every number as it is stored, unless a dtype is wanted; of rounded
    matrices they hold the float32 that they stand for. The tokenizer goes into folders.

    Args:
        source: As for `load_checkpoint`.
        destination: A folder ("native", "huggingface") or a file ("official", "ggml"). Its parent
            must exist.
        to: The format, a key of `TARGETS`.
        dtype: Of the matrices, one of the target's; all else becomes float32. None is as stored,
            but bfloat16 becomes float32 where the target lacks it, and float16 in a model folder.
        quantize: What matrices are rounded to, one of the target's.
        calibration: A text like those that the model will see, to round where it harms least; for
            "native".
        tokenizer: As for `load_checkpoint`. Files hold none.
        adapter: As for `load_checkpoint`: what is written is the model with it.
        replace: Whether what is already there is replaced: a model folder by a folder, or a file by
            a file.
        progress: Told how far it is.

    Raises:
        CheckpointError: As for `load_checkpoint`, or if the target cannot hold the model.
        TokenizerError: If the tokenizer cannot be read, or there is none to calibrate with.
        ValueError: If the target lacks the dtype or the rounding, both are given, or the
            calibration text is empty or not for rounding, or `destination` holds the source.
        FileExistsError: If `destination` exists and `replace` is false, or it is a folder of other
            things than a model.
        OSError: If it cannot be written, or the disk is too full to begin.
    """
    wanted = Wanted(to, dtype, quantize, calibration)
    destination = Path(destination)
    if destination.exists() and not replace:
        raise FileExistsError(f"{str(destination)!r} must not exist yet, but it does")
    stored = find_model(source)
    _check_replaced(stored, destination)
    if to != "native":
        check_has_ln0(stored.path, stored.config)
    if adapter is not None:
        stored = adapted(stored, adapter)
    found = find_tokenizer(stored, tokenizer)
    left = _left_out(stored, found, to, destination)
    watch = partial(_watched, destination, wanted, progress)
    if to in ("native", "huggingface"):
        write = _write_native if to == "native" else _write_huggingface
        with atomic_folder(destination, replace=replace) as staged:
            write(staged, stored, found, wanted, watch)
    else:
        write = _write_official if to == "official" else _write_ggml
        with atomic_file(destination) as staged:
            write(staged, stored, wanted, watch)
    for message in left:
        logger.warning(message)


def _check_replaced(stored: StoredModel, destination: Path) -> None:
    """Refuse to replace a folder that is no model, or that holds the model which is read."""
    if not destination.is_dir():
        return
    if destination.resolve() in stored.path.resolve().parents:
        raise ValueError(
            f"the destination must not hold the source {str(stored.path)!r}, which would be gone "
            f"when it is replaced, but {str(destination)!r} does; name another"
        )
    if any(destination.iterdir()) and not (destination / CONFIG_FILE).is_file():
        raise FileExistsError(
            f"{str(destination)!r} must be a model folder to be replaced, but it has no "
            f"{CONFIG_FILE!r}; name another"
        )


def _write_native(
    folder: Path, stored: StoredModel, tokenizer: Tokenizer | None, wanted: Wanted, watch: _Watch
) -> None:
    """Write the files of a model folder."""
    format = None if wanted.quantize is None else format_named(wanted.quantize)
    check_precision(stored, wanted.torch_dtype, format)
    if wanted.calibration is not None and stored.quantization is not None:
        raise ValueError(
            f"a calibration text is for rounding, but {str(stored.path)!r} is rounded already"
        )
    state = initial_state(stored, format, is_adapted=stored.adapter is not None)
    importance = None
    if wanted.calibration is not None:
        importance = _importance(stored, tokenizer, wanted.calibration)
    tensors = ConvertedTensors(stored, wanted.torch_dtype, format, importance)
    write_files(folder, stored.config, watch(tensors.entries()), format or stored.quantization)
    if tokenizer is not None:
        tokenizer.save(folder)
    if state is not None:
        shutil.copyfile(state, folder / INITIAL_STATE_FILE)


def _write_huggingface(
    folder: Path, stored: StoredModel, tokenizer: Tokenizer | None, wanted: Wanted, watch: _Watch
) -> None:
    """Write the files of a folder for `transformers`, to be run as it was, or exactly."""
    tensors = watch(plain_tensors(stored, wanted.torch_dtype))
    settings: dict[str, Any] = {"rescale_every": 0}
    if stored.format == "huggingface":
        settings = {key: stored.details[key] for key in HUGGINGFACE_SETTINGS}
    if main_dtype(tensors) == torch.float16 and settings["rescale_every"] <= 0:
        settings["rescale_every"] = _RESCALE_EVERY_OF_HALVES
    huggingface.write_folder(folder, stored.config, tensors, tokenizer, **settings)


def _write_official(path: Path, stored: StoredModel, wanted: Wanted, watch: _Watch) -> None:
    """Write an authors' file."""
    tensors = plain_tensors(stored, wanted.torch_dtype)
    official.write_pth(path, stored.config, watch(tensors))


def _write_ggml(path: Path, stored: StoredModel, wanted: Wanted, watch: _Watch) -> None:
    """Write a file of rwkv.cpp."""
    dtype, data_type = wanted.torch_dtype, "FP16"
    if wanted.quantize is not None:
        data_type = wanted.quantize.upper()
    elif dtype is None:
        as_stored = plain_tensors(stored, None).values()
        matrices = {entry.dtype for entry in as_stored if len(entry.shape) == 2}
        # rwkv.cpp has no bfloat16, and one dtype for all matrices; float32 holds any exactly.
        dtype = torch.float16 if matrices == {torch.float16} else torch.float32
    if dtype == torch.float32:
        data_type = "FP32"
    ggml.write_bin(path, stored.config, watch(plain_tensors(stored, dtype)), data_type)


def _watched(
    destination: Path, wanted: Wanted, progress: Progress | None, tensors: Mapping[str, Entry]
) -> dict[str, Entry]:
    """Return the entries, of which each tells how far the writing is when it is read.

    Raises:
        OSError: If the disk has no room for them: better now than in an hour. What rwkv.cpp rounds
            is smaller than its entries, and is not known before.
    """
    total = sum(entry.nbytes for entry in tensors.values())
    free = shutil.disk_usage(destination.absolute().parent).free
    if total > free and not (wanted.to == "ggml" and wanted.quantize is not None):
        reason = f"{total} bytes are to be written, and its disk has {free} left"
        raise OSError(errno.ENOSPC, reason, str(destination))
    done = 0

    def read(entry: Entry) -> Tensor:
        nonlocal done
        tensor = entry.read()
        done += entry.nbytes
        if progress is not None:
            progress(done, total)
        return tensor

    return {name: entry._replace(read=partial(read, entry)) for name, entry in tensors.items()}


def _left_out(
    stored: StoredModel, tokenizer: Tokenizer | None, to: str, destination: Path
) -> list[str]:
    """Return what to say of that for which the target has no place."""
    left: list[str] = []
    is_adapted = stored.adapter is not None
    if to != "native" and initial_state(stored, None, is_adapted=is_adapted) is not None:
        left.append(
            f"{str(stored.path)!r} has an initial state, which only a model folder can hold: what "
            "is written starts from the zero state"
        )
    is_file = to in ("official", "ggml")
    if is_file and tokenizer is not None and not lies_in(destination.parent, tokenizer):
        left.append(
            f"{str(destination)!r} holds no tokenizer: put the file of that of "
            f"{str(stored.path)!r} ({tokenizer.name}) beside it, or give it as `tokenizer` (to a "
            "command as --tokenizer)"
        )
    return left


def _importance(stored: StoredModel, tokenizer: Tokenizer | None, text: str) -> Importance:
    """Return how much each input matters on a text."""
    if tokenizer is None:
        raise TokenizerError(missing_tokenizer(stored.path, stored.config.vocab_size))
    tokens = torch.tensor(tokenizer.encode(text)[:_CALIBRATION_TOKENS])
    return input_importance(stored.model(None, None), _batches(tokens))


def _batches(tokens: Tensor) -> Iterator[Tensor]:
    """Yield the tokens in batches [B, T], and the rest as one of a shorter sequence."""
    B, T = _CALIBRATION_BATCH
    n_whole = len(tokens) // (B * T) * B * T
    yield from tokens[:n_whole].view(-1, B, T)
    if len(tokens) > n_whole:
        yield tokens[None, n_whole:]
