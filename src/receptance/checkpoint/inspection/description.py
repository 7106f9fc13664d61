"""What a checkpoint is, found out by reading it one tensor at a time."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from receptance.checkpoint.files.json_file import read_json
from receptance.checkpoint.formats.native import CONFIG_FILE, INITIAL_STATE_FILE
from receptance.checkpoint.formats.shards import SHARDS
from receptance.checkpoint.inspection.weight_reading import Numbers, StoredWeights, numbers
from receptance.checkpoint.load import find_model
from receptance.checkpoint.stored import Format, StoredModel
from receptance.checkpoint.tokenizers import HUB, find_tokenizer, missing_tokenizer
from receptance.errors import CheckpointError, TokenizerError
from receptance.models import joined_fingerprint, weight_digest

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told how many bytes are read, of how many."""

_BLOCK_BYTES = 1 << 22
_RUN_FILE = "config.toml"
# What `transformers` notes in a config.json of where a model comes from.
_NOTES = ("architectures", "_name_or_path", "transformers_version", "torch_dtype", "dtype")


@dataclass(frozen=True)
class WeightsFile:
    """A file with weights."""

    name: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class FoundTokenizer:
    """The tokenizer that belongs to a checkpoint."""

    kind: str
    vocab_size: int
    sha256: str


@dataclass(frozen=True)
class InitialState:
    """The state from which a model starts by default."""

    file: str
    is_of_model: bool
    """Whether the model that it was made by has this one's fingerprint."""


@dataclass(frozen=True)
class TensorSummary:
    """A tensor of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    """As it is stored: of a rounded matrix that of its bytes."""
    dtype: str
    numbers: Numbers
    """Of a rounded matrix, those that its bytes stand for."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint is; `asdict` of it is JSON."""

    path: str
    format: Format
    details: dict[str, Any]
    """What only its format knows, such as a version."""
    hub: str | None
    """The repository of the hub's cache that it lies in, and its commit: "owner/name@commit"."""
    architecture: str
    sizes: dict[str, Any]
    """n_layer, n_embd, vocab_size, and what else is not as in the published models."""
    n_parameters: int
    dtypes: dict[str, list[str]]
    """Of the "matrices" and of the "vectors", as they are stored."""
    quantization: dict[str, Any] | None
    files: list[WeightsFile]
    tokenizer: FoundTokenizer | None
    tokenizer_missing: str | None
    """What to add where there is none."""
    initial_state: InitialState | None
    fingerprint: str | None
    """`model.fingerprint()`, which saved states and results carry; None for a damaged model."""
    provenance: dict[str, Any]
    """What the files say of where the model comes from."""
    tensors: list[TensorSummary]
    problems: list[str]
    """Why it would not load; none if it would."""


def describe(source: str | Path, progress: Progress | None = None) -> Description:
    """Return what the checkpoint at a path, or of a name on the hub, is.

    All of it is read, one tensor at a time, so that it may be larger than the memory. What is
    damaged in the numbers, the names or beside them is among the `problems`; only a file of which
    nothing can be told is an error.

    Args:
        source: As for `load_checkpoint`.
        progress: Called now and then with the bytes read so far and in all.

    Raises:
        CheckpointError: If it is no checkpoint, or its structure is damaged or hostile.
        OSError: If a file cannot be read.
    """
    stored = find_model(source)
    weights = StoredWeights(stored)
    paths = _weights_paths(stored)
    sizes = [path.stat().st_size for path in paths]
    tell = _Teller(progress, sum(sizes) + sum(e.nbytes for e in weights.entries.values()))
    dtypes = _dtypes(weights)
    problems = [] if weights.problem is None else [weights.problem]
    summaries, digests = _read(stored, weights, problems, tell)
    is_whole = not problems
    fingerprint = joined_fingerprint(stored.config, digests) if is_whole else None
    tokenizer, missing = _tokenizer(stored, problems)
    details = {name: value for name, value in stored.details.items() if name != HUB}
    return Description(
        path=str(stored.path),
        format=stored.format,
        details=details,
        hub=_hub(stored),
        architecture=stored.config.architecture,
        sizes=stored.config.entries(),
        n_parameters=stored.config.n_parameters,
        dtypes=dtypes,
        quantization=None if stored.quantization is None else asdict(stored.quantization),
        files=[
            WeightsFile(path.name, size, _sha256(path, tell))
            for path, size in zip(paths, sizes, strict=True)
        ],
        tokenizer=tokenizer,
        tokenizer_missing=missing,
        initial_state=_initial_state(stored, fingerprint, problems),
        fingerprint=fingerprint,
        provenance=_provenance(stored, paths),
        tensors=summaries,
        problems=problems,
    )


class _Teller:
    """Counts the bytes that were read."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, n_bytes: int) -> None:
        self._done += n_bytes
        if self._progress is not None:
            self._progress(self._done, self._total)


def _read(
    stored: StoredModel, weights: StoredWeights, problems: list[str], tell: _Teller
) -> tuple[list[TensorSummary], dict[str, bytes]]:
    """Return what each tensor is, and what it adds to the fingerprint; note what is damaged."""
    summaries: list[TensorSummary] = []
    digests: dict[str, bytes] = {}
    for name in [*weights.entries]:
        entry = weights.entries[name]
        try:
            weight = weights.read(name)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        figures = numbers(weights.values(name, weight))
        if figures.n_not_finite:
            problems.append(
                f"{name!r:.80} in {str(stored.weights_path)!r} must be finite, but "
                f"{figures.n_not_finite} of its numbers are not"
            )
        summaries.append(TensorSummary(name, entry.shape, _name(entry.dtype), figures))
        digests[name] = weight_digest(weight)
        tell(entry.nbytes)
    return summaries, digests


def _dtypes(weights: StoredWeights) -> dict[str, list[str]]:
    kinds: dict[str, set[str]] = {"matrices": set(), "vectors": set()}
    for entry in weights.entries.values():
        is_matrix = entry.dtype == torch.uint8 or len(entry.shape) == 2
        kinds["matrices" if is_matrix else "vectors"].add(_name(entry.dtype))
    return {kind: sorted(names) for kind, names in kinds.items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _weights_paths(stored: StoredModel) -> list[Path]:
    """Return the files that hold the weights: one, or those of an index, or those of ranks."""
    path = stored.weights_path
    if path.suffix == ".json":
        return sorted({path.parent / name for name in read_json(path)["weight_map"].values()})
    return [path] if path.is_file() else sorted(stored.path.glob(SHARDS))


def _sha256(path: Path, tell: _Teller) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            total.update(block)
            tell(len(block))
    return total.hexdigest()


def _tokenizer(
    stored: StoredModel, problems: list[str]
) -> tuple[FoundTokenizer | None, str | None]:
    """Return the tokenizer, or what to add where there is none."""
    try:
        found = find_tokenizer(stored, None)
    except (CheckpointError, TokenizerError) as error:
        problems.append(str(error))
        return None, None
    if found is None:
        return None, missing_tokenizer(stored.path, stored.config.vocab_size)
    return FoundTokenizer(found.name, found.vocab_size, found.sha256), None


def _initial_state(
    stored: StoredModel, fingerprint: str | None, problems: list[str]
) -> InitialState | None:
    file = stored.path / INITIAL_STATE_FILE
    if stored.format != "native" or not file.is_file():
        return None
    made_by = _metadata(file).get("model")
    is_of_model = fingerprint is not None and made_by == fingerprint
    if not is_of_model:
        problems.append(
            f"{str(file)!r} must have been made by the model that starts from it, but it was not; "
            "move that file away to start from the zero state"
        )
    return InitialState(file.name, is_of_model)


def _hub(stored: StoredModel) -> str | None:
    """Return the repository and the commit that a path in the hub's cache tells of."""
    if HUB in stored.details:
        return str(stored.details[HUB])
    parts = stored.path.absolute().parts
    for place, part in enumerate(parts[:-2]):
        if part.startswith("models--") and parts[place + 1] == "snapshots":
            name = part.removeprefix("models--").replace("--", "/", 1)
            return f"{name}@{parts[place + 2]}"
    return None


def _provenance(stored: StoredModel, paths: list[Path]) -> dict[str, Any]:
    """Return what the files say of where a model comes from."""
    found: dict[str, Any] = {}
    metadata = {
        key: value
        for path in paths
        if path.suffix == ".safetensors"
        for key, value in _metadata(path).items()
        if key != "DCP_SHARDING_INFO"
    }
    if metadata:
        found["metadata"] = metadata
    if stored.format == "huggingface":
        entries = read_json(stored.path / CONFIG_FILE)
        found |= {key: str(entries[key]) for key in _NOTES if entries.get(key) is not None}
    run = stored.path.absolute().parent
    if stored.format == "native" and (run / _RUN_FILE).is_file():
        found["run"] = str(run / _RUN_FILE)
    return found


def _metadata(path: Path) -> Mapping[str, str]:
    """Return the texts in the header of a safetensors file."""
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, MemoryError):
        return {}
