"""Any checkpoint that this version reads, told apart by what it is and not by an option."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from receptance.checkpoint import official
from receptance.checkpoint.native import (
    CONFIG_FILE,
    INITIAL_STATE_FILE,
    WEIGHTS_FILE,
    check_vocabulary,
    list_names,
    read_folder,
)
from receptance.checkpoint.schema import DTYPES, model_from_weights
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import Tokenizer, load_tokenizer

# The tokenizer files that may lie beside weights, under their authors' names.
_TOKENIZER_FILES = ("tokenizer.json", "20B_tokenizer.json", "rwkv_vocab_v20230424.txt")


@dataclass(frozen=True)
class Checkpoint:
    """What was found at a path: a model, and how its text becomes tokens."""

    model: RWKV4
    tokenizer: Tokenizer | None
    format: Literal["native", "official"]
    path: Path
    initial_state: Path | None = None
    """The file of the state from which the model starts by default, where there is one."""


def load_checkpoint(
    path: str | Path, *, dtype: str | None = None, tokenizer: Tokenizer | str | Path | None = None
) -> Checkpoint:
    """Return the model at `path`: a model folder, or an authors' .pth file of RWKV-4.

    Everything is checked before a model is built: names, shapes, dtypes, and that every number is
    finite. Weights that need no other dtype stay memory-mapped, so that the file must not be
    changed in place while the model is used.

    Args:
        path: The folder or file.
        dtype: Of the matrices, "float32" or "bfloat16"; all else is float32. None is as stored,
            except that float16 becomes float32.
        tokenizer: A tokenizer, or a source for `load_tokenizer`. None is the one beside the
            weights: in a model folder its tokenizer's file, or bytes if it has none and the
            vocabulary is that of bytes; for a .pth the largest beside it that the vocabulary
            holds. Where there is none, the checkpoint's tokenizer is None.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged, hostile, or of a format or
            model that this version does not read, or the tokenizer does not fit.
        TokenizerError: If the tokenizer cannot be read.
        ValueError: If `dtype` is none of those above.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {list(DTYPES)} or None, got {dtype!r}")
    path = Path(path)
    torch_dtype = None if dtype is None else DTYPES[dtype]
    if path.is_dir():
        _check_is_model_folder(path)
        config, weights = read_folder(path)
        found = _given(path, tokenizer, config) or _beside_native(path, config)
        model = model_from_weights(path / WEIGHTS_FILE, config, weights, torch_dtype)
        state = path / INITIAL_STATE_FILE
        return Checkpoint(model, found, "native", path, state if state.is_file() else None)
    if not path.exists():
        raise CheckpointError(_nothing_at(path))
    if path.suffix != official.SUFFIX or not path.is_file():
        raise CheckpointError(
            f"a checkpoint must be a model folder or an authors' {official.SUFFIX} file, got the "
            f"file {str(path)!r}"
        )
    config, weights = official.read_pth(path)
    found = _given(path, tokenizer, config) or _beside_official(path, config)
    model = model_from_weights(path, config, weights, torch_dtype)
    return Checkpoint(model, found, "official", path)


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
