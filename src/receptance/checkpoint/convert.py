"""Any checkpoint that this version reads into a model folder, one tensor at a time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from receptance.atomic import atomic_folder
from receptance.checkpoint.load import (
    check_precision,
    find_model,
    initial_state,
    wanted_precision,
)
from receptance.checkpoint.native import INITIAL_STATE_FILE, write_files
from receptance.checkpoint.stored import ConvertedTensors, StoredModel
from receptance.checkpoint.tokenizers import find_tokenizer, missing_tokenizer
from receptance.errors import TokenizerError
from receptance.quantization import Importance, input_importance
from receptance.tokenizer import Tokenizer

# A text's first tokens tell which inputs are large; more of them change the third digit.
_CALIBRATION_TOKENS = 1 << 15
_CALIBRATION_BATCH = (8, 256)

_NOT_ROUNDED = "a calibration text is for rounding: `quantize` must be given with it, got None"


def convert_model(
    source: str | Path,
    folder: str | Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    calibration: str | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
    replace: bool = False,
) -> None:
    """Write the model at `source` as a model folder, whole or not at all.

    The folder holds what `save_model` would write of `load_checkpoint`'s model, byte for byte, and
    the tokenizer and the initial state where there are any. One tensor at a time is in memory,
    unless there is a calibration text, which the whole model reads.

    Args:
        source: As `path` of `load_checkpoint`.
        folder: The destination. Its parent must exist.
        dtype: As for `load_checkpoint`.
        quantize: As for `load_checkpoint`.
        calibration: A text like those that the model will see, to round where it harms least.
        tokenizer: As for `load_checkpoint`.
        replace: Whether a folder already there is replaced.

    Raises:
        CheckpointError: As for `load_checkpoint`.
        TokenizerError: If the tokenizer cannot be read, or there is none to calibrate with.
        ValueError: As for `load_checkpoint`, or if the calibration text is empty or not for
            rounding.
        FileExistsError: If `folder` exists and `replace` is false.
        OSError: If it cannot be written.
    """
    if calibration is not None and quantize is None:
        raise ValueError(_NOT_ROUNDED)
    torch_dtype, format = wanted_precision(dtype, quantize)
    stored = find_model(source)
    check_precision(stored, torch_dtype, format)
    if calibration is not None and stored.quantization is not None:
        raise ValueError(
            f"a calibration text is for rounding, but {str(source)!r} is rounded already"
        )
    found = find_tokenizer(stored, tokenizer)
    state = initial_state(stored, format)
    with atomic_folder(Path(folder), replace=replace) as staged:
        importance = None if calibration is None else _importance(stored, found, calibration)
        tensors = ConvertedTensors(stored, torch_dtype, format, importance)
        write_files(staged, stored.config, tensors.entries(), format or stored.quantization)
        if found is not None:
            found.save(staged)
        if state is not None:
            shutil.copyfile(state, staged / INITIAL_STATE_FILE)


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
