"""Any checkpoint that this version reads, told apart by what it is and not by an option."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from receptance.checkpoint.adapter import adapted
from receptance.checkpoint.files.json_file import read_json
from receptance.checkpoint.formats import ggml, huggingface, native, official
from receptance.checkpoint.formats.ggml_directory import MAGIC, RELATED_MAGICS
from receptance.checkpoint.formats.native import CONFIG_FILE, INITIAL_STATE_FILE
from receptance.checkpoint.hub.names import HubName, parse_name
from receptance.checkpoint.schema import DTYPES
from receptance.checkpoint.stored import Format, StoredModel
from receptance.checkpoint.tokenizers import HUB, TOKENIZER_FILES, find_tokenizer
from receptance.checkpoint.wrong_path import nearest, no_model_in, not_a_model, nothing_at
from receptance.errors import CheckpointError
from receptance.models import RWKV4
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import FORMATS, format_named
from receptance.tokenizer import Tokenizer

_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Checkpoint:
    """What was found at a path: a model, and how its text becomes tokens."""

    model: RWKV4
    tokenizer: Tokenizer | None
    format: Format
    path: Path
    initial_state: Path | None = None
    """The file of the state from which the model starts by default, where there is one."""
    adapter: Path | None = None
    """The file of an adapter that is not in the model, since nothing can be merged into rounded
    weights: whoever computes with the model is to add it."""


def load_checkpoint(
    path: str | Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
    adapter: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Checkpoint:
    """Return the model at `path`, in whichever format it is.

    Everything is checked before a model is built: names, shapes, dtypes, and that every number is
    finite. Weights that need no conversion stay memory-mapped, so that the file must not be
    changed in place while the model is used. Weights that are rounded are read one tensor at a
    time, and never all in memory.

    Args:
        path: A model folder, a Hugging Face folder, an authors' .pth, an rwkv.cpp .bin, or a name
            on the hub: "owner/name", "owner/name@revision" or "owner/name/file.pth". A path that
            exists goes before a name.
        dtype: Of the matrices, "float32", "bfloat16" or "float16"; all else is float32. None is as
            stored. For the CPU float16 becomes float32, and the log says so. Rounded matrices have
            no dtype to choose.
        quantize: What the matrices are rounded to, "int8" or "int4"; None is as stored.
        tokenizer: A tokenizer, or a source for `load_tokenizer`. None is the one beside the
            weights, as `find_tokenizer` says. Where there is none, the checkpoint's tokenizer is
            None.
        adapter: The file of an adapter that was trained for this model, merged into its weights in
            the dtypes that they are stored in. Into weights that are stored rounded it is not:
            then the checkpoint names it, unread. None is the model as it is.
        device: What the model is to compute on. It is not moved there.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged, hostile, or of a format or
            model that this version does not read, or the tokenizer or the adapter does not fit, or
            the weights are rounded and another format or a dtype is wanted.
        TokenizerError: If the tokenizer cannot be read.
        ValueError: If `dtype` or `quantize` is none of those above, or both are given.
    """
    torch_dtype, format = wanted_precision(dtype, quantize)
    stored = find_model(path)
    is_merged = adapter is not None and stored.quantization is None
    if adapter is not None and is_merged:
        stored = adapted(stored, adapter)
    check_precision(stored, torch_dtype, format)
    found = find_tokenizer(stored, tokenizer)
    start = initial_state(stored, format, is_adapted=adapter is not None)
    keeps_half = torch.device(device).type != "cpu"
    model = stored.model(torch_dtype, format, keeps_half=keeps_half)
    unmerged = None if adapter is None or is_merged else Path(adapter)
    return Checkpoint(model, found, stored.format, stored.path, start, unmerged)


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


def find_model(source: str | Path) -> StoredModel:
    """Return what a path or a name on the hub stands for, told apart by what it is.

    A path that exists goes before a name. No weight is read; a model of the hub is downloaded
    first, and its details say under "hub" which repository and commit it is.

    Raises:
        CheckpointError: If it is no checkpoint that this version reads, or cannot be downloaded.
        OSError: If it cannot be read or, from the hub, written.
    """
    path = Path(source)
    if path.exists():
        return _stored_at(path)
    name = hub_name(source)
    if name is None:
        raise CheckpointError(nothing_at(source))
    from receptance.checkpoint.hub import download  # noqa: PLC0415 - see decision 0024

    try:
        fetched = download.fetch(name, TOKENIZER_FILES)
    except CheckpointError as error:
        near = nearest(path)
        if near is None:
            raise
        raise CheckpointError(f"{error}. Did you mean the path {str(near)!r}?") from error
    stored = _stored_at(fetched.path)
    return replace(stored, details={**stored.details, HUB: fetched.origin})


def hub_name(source: str | Path) -> HubName | None:
    """Return the name on the hub that `source` is; None if it is a path, or a mistyped one."""
    path, name = Path(source), parse_name(str(source))
    return None if name is None or path.exists() or Path(path.parts[0]).exists() else name


def _stored_at(path: Path) -> StoredModel:
    """Return what lies at a path that exists, told apart by its content."""
    if path.is_dir():
        if not (path / CONFIG_FILE).is_file():
            raise CheckpointError(no_model_in(path))
        is_theirs = "model_type" in read_json(path / CONFIG_FILE)
        return huggingface.read_folder(path) if is_theirs else native.read_folder(path)
    if path.is_file():
        begins = _beginning(path)
        # A file of weights in a Hugging Face folder is a zip too, and no model without its folder.
        is_part = path.suffix != official.SUFFIX and (path.parent / CONFIG_FILE).is_file()
        if begins in (MAGIC, *RELATED_MAGICS):
            return ggml.read_bin(path)
        if path.suffix == official.SUFFIX or (begins == _ZIP and not is_part):
            return official.read_pth(path)
        if path.suffix == ".bin" and not is_part:
            return ggml.read_bin(path)  # which says what it is not
    raise CheckpointError(not_a_model(path))


def _beginning(path: Path) -> bytes:
    """Return the first bytes of a file, which tell most formats."""
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP))
    except OSError as error:  # of reading, which does not say of what
        raise OSError(error.errno, error.strerror, str(path)) from error


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


def initial_state(
    stored: StoredModel, format: QuantizedFormat | None, *, is_adapted: bool
) -> Path | None:
    """Return the file of the state from which the model starts by default, if there is one.

    Args:
        stored: The model.
        format: What its weights are to be rounded to; None is as stored.
        is_adapted: Whether it gets an adapter.

    Raises:
        CheckpointError: If the weights are to be rounded, or get an adapter, which makes another
            model of them.
    """
    file = stored.path / INITIAL_STATE_FILE
    if stored.format != "native" or not file.is_file():
        return None
    if is_adapted or format not in (None, stored.quantization):
        which = "adapted" if is_adapted else "rounded"
        raise CheckpointError(
            f"{str(file)!r} must have been made by the model that starts from it, and the {which} "
            "one is another; move that file away to start from the zero state"
        )
    return file
