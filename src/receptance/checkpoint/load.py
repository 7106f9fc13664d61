"""Any checkpoint that this version reads, told apart by what it is and not by an option."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import torch

from receptance.checkpoint import official
from receptance.checkpoint.native import (
    CONFIG_FILE,
    INITIAL_STATE_FILE,
    check_vocabulary,
    list_names,
    read_folder,
)
from receptance.checkpoint.schema import DTYPES
from receptance.checkpoint.stored import Format, StoredModel
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import FORMATS, format_named
from receptance.tokenizer import Tokenizer, load_tokenizer

# The tokenizer files that may lie beside weights, under their authors' names.
_TOKENIZER_FILES = ("tokenizer.json", "20B_tokenizer.json", "rwkv_vocab_v20230424.txt")


@dataclass(frozen=True)
class Checkpoint:
    """What was found at a path: a model, and how its text becomes tokens."""

    model: RWKV4
    tokenizer: Tokenizer | None
    format: Format
    path: Path
    initial_state: Path | None = None
    """The file of the state from which the model starts by default, where there is one."""


def load_checkpoint(
    path: str | Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
) -> Checkpoint:
    """Return the model at `path`: a model folder, or an authors' .pth file of RWKV-4.

    Everything is checked before a model is built: names, shapes, dtypes, and that every number is
    finite. Weights that need no conversion stay memory-mapped, so that the file must not be
    changed in place while the model is used. Weights that are rounded are read one tensor at a
    time, and never all in memory.

    Args:
        path: The folder or file.
        dtype: Of the matrices, "float32" or "bfloat16"; all else is float32. None is as stored,
            except that float16 becomes float32. Rounded matrices have no dtype to choose.
        quantize: What the matrices are rounded to, "int8" or "int4"; None is as stored.
        tokenizer: A tokenizer, or a source for `load_tokenizer`. None is the one beside the
            weights: in a model folder its tokenizer's file, or bytes if it has none and the
            vocabulary is that of bytes; for a .pth the largest beside it that the vocabulary
            holds. Where there is none, the checkpoint's tokenizer is None.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged, hostile, or of a format or
            model that this version does not read, or the tokenizer does not fit, or the weights
            are rounded and another format or a dtype is wanted.
        TokenizerError: If the tokenizer cannot be read.
        ValueError: If `dtype` or `quantize` is none of those above, or both are given.
    """
    torch_dtype, format = wanted_precision(dtype, quantize)
    stored = find_model(Path(path))
    check_precision(stored, torch_dtype, format)
    found = find_tokenizer(stored, tokenizer)
    model = stored.model(torch_dtype, format)
    return Checkpoint(model, found, stored.format, stored.path, initial_state(stored, format))


def wanted_precision(
    dtype: str | None, quantize: str | None
) -> tuple[torch.dtype | None, QuantizedFormat | None]:
    """Return what two names mean, of which one at most may be given.

    Raises:
        ValueError: If both are, or there is no such name.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {list(DTYPES)} or None, got {dtype!r}")
    if dtype is not None and quantize is not None:
        raise ValueError(
            f"`dtype` must be None with `quantize`, since rounded matrices have none, got {dtype!r}"
        )
    return (
        None if dtype is None else DTYPES[dtype],
        None if quantize is None else format_named(quantize),
    )


def find_model(path: Path) -> StoredModel:
    """Return what lies at `path`, told apart by what it is; no weight is read.

    Raises:
        CheckpointError: If it is no checkpoint that this version reads.
    """
    if path.is_dir():
        _check_is_model_folder(path)
        return read_folder(path)
    if not path.exists():
        raise CheckpointError(_nothing_at(path))
    if path.suffix != official.SUFFIX or not path.is_file():
        raise CheckpointError(
            f"a checkpoint must be a model folder or an authors' {official.SUFFIX} file, got the "
            f"file {str(path)!r}"
        )
    return official.read_pth(path)


def check_precision(
    stored: StoredModel, dtype: torch.dtype | None, format: QuantizedFormat | None
) -> None:
    """Raise a CheckpointError if rounded weights are wanted in another precision."""
    is_as_stored = dtype is None and format in (None, stored.quantization)
    if stored.quantization is None or is_as_stored:
        return
    wanted = str(dtype).removeprefix("torch.") if format is None else _name(format)
    raise CheckpointError(
        f"{str(stored.path)!r} must hold plain weights to become {wanted}, but they are rounded to "
        f"{_name(stored.quantization)} already; take the model that it was made from, or leave the "
        "precision as it is"
    )


def _name(format: QuantizedFormat) -> str:
    """Return what a user calls a format."""
    return {format: name for name, format in FORMATS.items()}.get(format, str(format))


def find_tokenizer(
    stored: StoredModel, tokenizer: Tokenizer | str | Path | None
) -> Tokenizer | None:
    """Return the tokenizer that was given, or else the one beside the weights, if it fits."""
    given = _given(stored.path, tokenizer, stored.config)
    if given is not None:
        return given
    beside = _beside_native if stored.format == "native" else _beside_official
    return beside(stored.path, stored.config)


def initial_state(stored: StoredModel, format: QuantizedFormat | None) -> Path | None:
    """Return the file of the state from which the model starts by default, if there is one.

    Raises:
        CheckpointError: If the weights are to be rounded, which makes another model of them.
    """
    file = stored.path / INITIAL_STATE_FILE
    if stored.format != "native" or not file.is_file():
        return None
    if format not in (None, stored.quantization):
        raise CheckpointError(
            f"{str(file)!r} must have been made by the model that starts from it, and the rounded "
            "one is another; move that file away to start from the zero state"
        )
    return file


def _given(
    path: Path, tokenizer: Tokenizer | str | Path | None, config: RWKV4Config
) -> Tokenizer | None:
    """Return the tokenizer that the caller gave, if it fits."""
    if tokenizer is None:
        return None
    loaded = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    check_vocabulary(path, loaded, config)
    return loaded


def _beside_native(folder: Path, config: RWKV4Config) -> Tokenizer | None:
    """Return the tokenizer of a model folder, or None if it was saved without one."""
    files = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if files:
        tokenizer = load_tokenizer(files[0] if len(files) == 1 else folder)
        check_vocabulary(folder, tokenizer, config)
        return tokenizer
    # Bytes have no file. A vocabulary of another size without a file is a model saved without a
    # tokenizer, and reading it as bytes would make nonsense of it in silence.
    tokenizer = load_tokenizer("bytes")
    return tokenizer if tokenizer.vocab_size == config.vocab_size else None


def _beside_official(path: Path, config: RWKV4Config) -> Tokenizer | None:
    """Return the largest tokenizer in the folder of a .pth that its vocabulary holds."""
    files = [path.with_name(name) for name in _TOKENIZER_FILES]
    tokenizers = [load_tokenizer(file) for file in files if file.is_file()]
    fitting = [each for each in tokenizers if each.vocab_size <= config.vocab_size]
    return max(fitting, key=lambda each: each.vocab_size, default=None)


def _check_is_model_folder(folder: Path) -> None:
    """Raise a CheckpointError that points to the model, if `folder` is only near to one."""
    if (folder / CONFIG_FILE).is_file():
        return
    names = list_names(folder)
    inside = [
        str(entry)
        for entry in sorted(folder.iterdir())
        if (entry / CONFIG_FILE).is_file() or entry.suffix == official.SUFFIX
    ]
    hint = f"; did you mean {inside[0]!r}?" if inside else ""
    raise CheckpointError(
        f"a model folder must hold {CONFIG_FILE!r}, but {str(folder)!r} "
        f"{f'holds {names}' if names else 'is empty'}{hint}"
    )


def _nothing_at(path: Path) -> str:
    """Return the message for a path where nothing is, with the names that are near it."""
    message = f"no checkpoint at {str(path)!r}: it does not exist"
    parent = path.parent
    if not parent.is_dir():
        return f"{message}, nor does {str(parent)!r}"
    names = [
        entry.name
        for entry in sorted(parent.iterdir())
        if entry.is_dir() or entry.suffix == official.SUFFIX
    ]
    visible = [name for name in names if not name.startswith(".")]
    by_lower = {name.lower(): name for name in visible}
    stems = {Path(name).stem.lower(): name for name in visible}
    near = difflib.get_close_matches(path.name.lower(), [*by_lower, *stems], n=1)
    message += f". Found in {str(parent)!r}: {visible[:12]}"
    if near:
        name = by_lower.get(near[0], stems.get(near[0], ""))
        message += f". Did you mean {str(parent / name)!r}?"
    return message
