"""A training run as one TOML file: every setting, validated once."""

import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from receptance.errors import ConfigError
from receptance.models import RWKV4Config
from receptance.training.optimizer import OptimizerConfig
from receptance.training.schedule import ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model to train: a preset, or its sizes."""

    architecture: Literal["rwkv4"] = "rwkv4"
    preset: Literal["", "169m", "430m", "1.5b", "3b", "7b", "14b"] = ""
    """A published size; empty when `n_layer` and `n_embd` give it."""
    n_layer: int = 0
    n_embd: int = 0
    vocab_size: int = 0
    """0 for that of the token store."""

    def __post_init__(self) -> None:
        sizes = bool(self.n_layer), bool(self.n_embd)
        if sizes != ((False, False) if self.preset else (True, True)):
            raise ConfigError(
                "`model` must have either `preset` or both `n_layer` and `n_embd`, got "
                f"{self.preset!r}, {self.n_layer} and {self.n_embd}"
            )

    def build(self, store_vocab_size: int) -> RWKV4Config:
        """Return the shape of the model for a store of `store_vocab_size` token ids."""
        vocab_size = self.vocab_size or store_vocab_size
        if vocab_size < store_vocab_size:
            raise ConfigError(
                f"`model.vocab_size` must be at least {store_vocab_size}, the token store's, "
                f"got {vocab_size}"
            )
        if self.preset:
            return RWKV4Config.preset(self.preset, vocab_size=vocab_size)
        return RWKV4Config(n_layer=self.n_layer, n_embd=self.n_embd, vocab_size=vocab_size)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a step sees."""

    store: str
    """The token store's folder, relative to where the command is run."""
    store_sha256: str = ""
    """The store's `sha256`; empty for that of the store which is there when the run begins."""
    ctx_len: int = 1024
    """Tokens in a sequence."""
    batch_size: int = 16
    """Sequences in a step."""
    micro_batch_size: int = 0
    """Sequences computed at once, their gradients accumulated over the step; 0 for all."""
    reset_at_documents: bool = False
    """Whether a document begins with the zero state, or reads on from the one before it."""

    def __post_init__(self) -> None:
        for name in ("ctx_len", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`data.{name}` must be at least 1, got {getattr(self, name)}")
        micro = self.micro_batch_size
        if micro < 0 or (micro and self.batch_size % micro):
            raise ConfigError(
                f"`data.micro_batch_size` must divide `data.batch_size`, {self.batch_size}, "
                f"got {micro}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, and in which arithmetic."""

    steps: int
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the matrix products; weights, their moments and the WKV are float32 in both."""
    auxiliary_loss: float = 1e-4
    """The weight of the penalty on the largest logit; 0 leaves it out."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"`training.steps` must be at least 1, got {self.steps}")
        if self.auxiliary_loss < 0:
            raise ConfigError(
                f"`training.auxiliary_loss` must not be negative, got {self.auxiliary_loss}"
            )


@dataclass(frozen=True, kw_only=True)
class IntervalConfig:
    """What a run does every so many steps, and after its last one; 0 is never.

    None of this changes the numbers of a run. A checkpoint is written at its end in any case.
    """

    checkpoint_steps: int = 500
    keep_checkpoints: int = 2
    """How many of the newest are kept."""
    validation_steps: int = 500
    validation_tokens: int = 100_000
    """Held-out documents are read until there are as many."""
    sample_steps: int = 500
    sample_prompt: str = ""
    sample_tokens: int = 80

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            least = 0 if each.name.endswith("_steps") else 1
            if isinstance(value, int) and value < least:
                raise ConfigError(f"`every.{each.name}` must be at least {least}, got {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run."""

    name: str
    """The run's folder under `runs`."""
    seed: int = 1
    """Of the weights and of the order of the samples."""
    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    every: IntervalConfig = field(default_factory=IntervalConfig)

    def __post_init__(self) -> None:
        is_printable = self.name.isprintable()
        if self.name in ("", ".", "..") or not is_printable or {"/", "\\"} & set(self.name):
            raise ConfigError(f"`name` must be the name of a folder, got {self.name!r}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"`seed` must lie in 0 to 2^63 - 1, got {self.seed}")
        rising = self.schedule.warmup_steps + self.schedule.constant_steps
        if rising > self.training.steps:
            raise ConfigError(
                "`schedule.warmup_steps` and `schedule.constant_steps` together must be at most "
                f"`training.steps`, {self.training.steps}, got {rising}"
            )


def read_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the run that a TOML file describes.

    Args:
        path: The file.
        overrides: Further settings, `section.key=value` with a TOML value (or a bare word).

    Raises:
        ConfigError: If there is no such file, it is no TOML, or a key is unknown, missing or has a
            wrong value.
        OSError: If the file cannot be read.
    """
    if path.is_dir() or not path.exists():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"a run must be described by a TOML file, but {str(path)!r} {found}")
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be TOML in UTF-8, but it is not text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} must be TOML, but it is not: {error}") from error
    for override in overrides:
        _override(entries, override)
    return parse_config(entries, str(path))


def parse_config(entries: Mapping[str, Any], source: str) -> RunConfig:
    """Return the run that `entries` describe; errors name `source` and the key."""
    _refuse_unknown(RunConfig, entries, source)
    try:
        # A bare word that looks like a date, as in `name=2024-01-01`, is meant as a text.
        as_json = json.dumps(entries, default=str)
        return TypeAdapter(RunConfig).validate_json(as_json, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = "missing" if first["type"] == "missing" else f"{first['input']!r}: {first['msg']}"
        raise ConfigError(f"{source}: `{key}` is {problem}") from error
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def config_to_toml(config: RunConfig) -> str:
    """Return `config` as a TOML file that `read_config` reads back to the same."""
    entries = asdict(config)
    tables = {key: value for key, value in entries.items() if isinstance(value, dict)}
    lines = [f"{key} = {_toml_value(entries[key])}" for key in entries if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return the settings that change a run's numbers and are not the same, each as a line.

    Where the run and its store lie are not among them: the store is known by its hash.
    """
    before, after = _flat(asdict(old)), _flat(asdict(new))
    elsewhere = ("name", "data.store")
    return [
        f"`{key}` was {before[key]!r}, now {after[key]!r}"
        for key in before
        if before[key] != after[key] and key not in elsewhere and not key.startswith("every.")
    ]


def _override(entries: dict[str, Any], override: str) -> None:
    """Set one dotted key of `entries`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"a setting must be written key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        entries = entries.setdefault(table, {})
        if not isinstance(entries, dict):
            raise ConfigError(f"{override!r}: `{table}` is a value and has no keys")
    entries[last] = value


def _refuse_unknown(schema: Any, entries: Mapping[str, Any], source: str, prefix: str = "") -> None:
    """Raise for the first key that `schema` lacks, with the one that may be meant."""
    known = {each.name: each.type for each in fields(schema)}
    for key, value in entries.items():
        if key not in known:
            tables = [name for name, kind in known.items() if is_dataclass(kind)]
            inside = [f"{each}.{key}" for each in tables if key in _names(known[each])]
            near = inside or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {sorted(known)}"
            raise ConfigError(f"{source}: unknown key '{prefix}{key}'; {hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{source}: `{prefix}{key}` must be finite, got {value}")
        if is_dataclass(known[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{source}: `{prefix}{key}` must be a table, got {value!r}")
            _refuse_unknown(known[key], value, source, f"{prefix}{key}.")


def _names(schema: Any) -> set[str]:
    return {each.name for each in fields(schema)}


def _flat(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entries.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _toml_value(value: object) -> str:
    # A JSON string, number, boolean or list of them is also TOML, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
