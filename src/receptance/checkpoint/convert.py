"""Any checkpoint that this version reads into any format, one tensor at a time."""

import errno
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from receptance.atomic import atomic_file, atomic_folder
from receptance.checkpoint.formats import ggml, huggingface, official
from receptance.checkpoint.formats.huggingface import SETTINGS as HUGGINGFACE_SETTINGS
from receptance.checkpoint.formats.native import INITIAL_STATE_FILE, write_files
from receptance.checkpoint.load import check_precision, find_model, initial_state
from receptance.checkpoint.stored import ConvertedTensors, StoredModel, plain_tensors
from receptance.checkpoint.targets import Wanted
from receptance.checkpoint.tokenizers import find_tokenizer, missing_tokenizer
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
"""Told how many bytes are written, and of how many, before each tensor."""

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
        tokenizer: As for `load_checkpoint`.
        replace: Whether what is already there is replaced, folder by folder or file by file.
        progress: Told how far it is.

    Raises:
        CheckpointError: As for `load_checkpoint`, or if the target cannot hold the model.
        TokenizerError: If the tokenizer cannot be read, or there is none to calibrate with.
        ValueError: If the target lacks the dtype or the rounding, both are given, or the
            calibration text is empty or not for rounding.
        FileExistsError: If `destination` exists and `replace` is false.
        OSError: If it cannot be written, or the disk is too full to begin.
    """
    wanted = Wanted(to, dtype, quantize, calibration)
    destination = Path(destination)
    if destination.exists() and not replace:
        raise FileExistsError(f"{str(destination)!r} must not exist yet, but it does")
    stored = find_model(source)
    found = find_tokenizer(stored, tokenizer)
    is_folder = to in ("native", "huggingface")
    stage = partial(atomic_folder, replace=replace) if is_folder else atomic_file
    watch = partial(_watched, destination, wanted, progress)
    with stage(destination) as staged:
        if to == "native":
            _write_native(staged, stored, found, wanted, watch)
        elif to == "huggingface":
            _write_huggingface(staged, stored, found, wanted, watch)
        else:
            _write_file(staged, stored, wanted, watch)
    _say_what_is_left(stored, found, to, destination)


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
    state = initial_state(stored, format)
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
    halves = tensors["head.weight"].dtype == torch.float16
    rescale_every = _RESCALE_EVERY_OF_HALVES if halves else 0
    settings = dict(stored.details) if stored.format == "huggingface" else {}
    known = {k: v for k, v in settings.items() if k in HUGGINGFACE_SETTINGS and isinstance(v, int)}
    settings = {"rescale_every": rescale_every, **known}
    huggingface.write_folder(folder, stored.config, tensors, tokenizer, **settings)


def _write_file(path: Path, stored: StoredModel, wanted: Wanted, watch: _Watch) -> None:
    """Write an authors' file, or one of rwkv.cpp."""
    tensors = watch(plain_tensors(stored, wanted.torch_dtype))
    if wanted.to == "official":
        official.write_pth(path, stored.config, tensors)
        return
    # rwkv.cpp has no bfloat16; float32 holds it exactly.
    plain = "FP16" if tensors["head.weight"].dtype == torch.float16 else "FP32"
    data_type = plain if wanted.quantize is None else wanted.quantize.upper()
    ggml.write_bin(path, stored.config, tensors, data_type)


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
        if progress is not None:
            progress(done, total)
        done += entry.nbytes
        return entry.read()

    return {name: entry._replace(read=partial(read, entry)) for name, entry in tensors.items()}


def _say_what_is_left(
    stored: StoredModel, tokenizer: Tokenizer | None, to: str, destination: Path
) -> None:
    """Log what the target has no place for."""
    if initial_state(stored, None) is not None:
        logger.warning(
            "%r has an initial state, which only a model folder can hold: what is written starts "
            "from the zero state",
            str(stored.path),
        )
    if tokenizer is None or to not in ("official", "ggml"):
        return
    beside = find_tokenizer(find_model(destination), None)
    if beside is None or beside.sha256 != tokenizer.sha256:
        logger.warning(
            "%r holds no tokenizer: put the file of that of %r (%s) beside it, or give it as "
            "`tokenizer` (to a command as --tokenizer)",
            str(destination),
            str(stored.path),
            tokenizer.name,
        )


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
