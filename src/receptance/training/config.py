"""A training run as one TOML file: every setting, validated once."""

import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from receptance.errors import ConfigError
from receptance.models import RWKV4Config
from receptance.ops.device import AUTO, device_of
from receptance.training.data_config import DataConfig
from receptance.training.optimization import (
    FinetuneConfig,
    OptimizerConfig,
    ScheduleConfig,
    SpikeConfig,
)

# How the same sums are computed: in which parts and on how many machines.
ROUNDING_ONLY = (
    "data.micro_batch_size",
    "training.checkpoint_layers",
    "training.compile",
    "training.device",
    "training.parallel",
)


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
class TrainingConfig:
    """How long, from which weights on, in which arithmetic and where."""

    steps: int
    init_from: str = ""
    """A model folder, another checkpoint or a name on the hub, whose weights the run begins with;
    empty for none."""
    init_sha256: str = ""
    """Their hash, `weights_sha256`; empty for those which are there when the run begins."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the matrix products; weights, their moments and the WKV are float32 in both."""
    auxiliary_loss: float = 1e-4
    """The weight of the penalty on the largest logit; 0 leaves it out."""
    dropout: float = 0.0
    """The share of numbers set to zero, in the embedding and in what each sublayer adds."""
    checkpoint_layers: bool = False
    """Whether backward computes each layer again instead of keeping what is inside it."""
    compile: bool = False
    """Whether the model goes through `torch.compile`, whole."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """What computes; "auto" is "cuda" where there is a GPU. With "cuda" each rank has a GPU of its
    own, and they exchange by NCCL."""
    parallel: Literal["none", "ddp", "fsdp2"] = "none"
    """How the ranks of `torchrun` share the work: each with all weights, or each with a part."""

    @property
    def device_type(self) -> str:
        """What `device` is on this machine, "cpu" or "cuda"; that it is there is not asked."""
        return device_of(AUTO).type if self.device == AUTO else self.device

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"`training.steps` must be at least 1, got {self.steps}")
        if self.auxiliary_loss < 0:
            raise ConfigError(
                f"`training.auxiliary_loss` must not be negative, got {self.auxiliary_loss}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"`training.dropout` must lie in [0, 1), got {self.dropout}")
        if self.init_sha256 and not self.init_from:
            raise ConfigError(
                "`training.init_sha256` must be empty where `training.init_from` is, got "
                f"{self.init_sha256!r}"
            )


@dataclass(frozen=True, kw_only=True)
class IntervalConfig:
    """What a run does every so many steps, and after its last one; 0 is never.

    None of this changes the numbers of a run. A checkpoint is written at its end in any case.
    """

    checkpoint_steps: int = 500
    checkpoint_minutes: float = 0.0
    """A checkpoint is also written when so many have passed since the last one."""
    keep_checkpoints: int = 2
    """How many of the newest are kept."""
    keep_every: int = 0
    """Those whose step is a multiple of it are kept as well; 0 for none."""
    keep_best: int = 0
    """So many of the fewest held-out bits per byte are kept as well."""
    save_asynchronously: bool = False
    """Whether training goes on while a copy of its state, made first, is written."""
    validation_steps: int = 500
    validation_tokens: int = 100_000
    """Held-out documents are read until there are as many."""
    sample_steps: int = 500
    sample_prompt: str = ""
    sample_tokens: int = 80

    def __post_init__(self) -> None:
        for name in ("keep_checkpoints", "validation_tokens", "sample_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`every.{name}` must be at least 1, got {getattr(self, name)}")
        switched_off_by_0 = (
            "checkpoint_steps",
            "checkpoint_minutes",
            "keep_every",
            "keep_best",
            "validation_steps",
            "sample_steps",
        )
        for name in switched_off_by_0:
            if getattr(self, name) < 0:
                raise ConfigError(f"`every.{name}` must be at least 0, got {getattr(self, name)}")


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
    spikes: SpikeConfig = field(default_factory=SpikeConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

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
        if self.data.later_batch_step >= self.training.steps:
            raise ConfigError(
                f"`data.later_batch_step` must be below `training.steps`, {self.training.steps}, "
                f"got {self.data.later_batch_step}"
            )
        self.finetune.check(
            init_from=self.training.init_from,
            segments=self.data.segments,
            reset_at_documents=self.data.reset_at_documents,
            parallel=self.training.parallel,
        )


def read_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the run that a TOML file describes.

    Args:
        path: The file.
        overrides: Further settings, `section.key=value` with a TOML value (or a bare word); of one
            of several tables `section.tables.name.key=value`, by its name.

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
    if config.finetune == FinetuneConfig():
        del entries["finetune"]  # as in the files of before there was fine-tuning
    if config.data.order == "permuted":
        del entries["data"]["order"]  # as in those of before there was another
    sources = entries["data"].pop("sources")
    if sources:
        del entries["data"]["store"], entries["data"]["store_sha256"]
    tables = {key: value for key, value in entries.items() if isinstance(value, dict)}
    lines = [f"{key} = {_toml_value(entries[key])}" for key in entries if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
        for source in sources if name == "data" else ():
            lines += ["", "[[data.sources]]", *_toml_lines(source)]
    return "\n".join(lines) + "\n"


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return the settings that make another run of it and are not the same, each as a line.

    Where the run and its stores lie are not among them, a store being known by its hash; nor is
    `training.init_sha256` where `new` leaves it open; nor what `rounding_differences` returns.
    """
    apart = {"name", "data.store", *ROUNDING_ONLY}
    apart |= {f"data.sources.{each.name}.store" for each in old.data.sources}
    if not new.training.init_sha256:
        apart.add("training.init_sha256")
    return [
        f"`{key}` was {before!r}, now {after!r}"
        for key, before, after in _changed(old, new)
        if key not in apart and not key.startswith("every.")
    ]


def rounding_differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return the settings in `ROUNDING_ONLY` that are not the same, each as a line.

    A run may go on with others, on other machines for example. What it computes is then the same
    but for the rounding of sums, so no longer bit for bit what it would have been.
    """
    return [
        f"`{key}` was {before!r}, now {after!r}"
        for key, before, after in _changed(old, new)
        if key in ROUNDING_ONLY
    ]


def _changed(old: RunConfig, new: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted key of each setting that differs, with both values."""
    before, after = _flat(old), _flat(new)
    # Of a source that only one of them has, that it is there says all.
    shared = [key for key in before if key in after]
    return ((key, before[key], after[key]) for key in shared if before[key] != after[key])


def _override(entries: dict[str, Any], override: str) -> None:
    """Set one dotted key of `entries`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"a setting must be written key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    found: Any = entries
    table, dot, rest = key.strip().partition(".")
    while dot:
        found = found.setdefault(table, {})
        if isinstance(found, list):
            found, rest = _named(found, rest, override)
        if not isinstance(found, dict):
            raise ConfigError(f"{override!r}: `{table}` is a value and has no keys")
        table, dot, rest = rest.partition(".")
    found[table] = value


def _named(rows: list[Any], key: str, override: str) -> tuple[Any, str]:
    """Return the table of a list that a dotted key begins with the name of, and the key in it."""
    names = [str(row.get("name")) if isinstance(row, dict) else "" for row in rows]
    # A name may have dots in it, and begin with another one.
    for name, row in sorted(zip(names, rows, strict=True), key=lambda each: -len(each[0])):
        if name and key.startswith(f"{name}.") and len(key) > len(name) + 1:
            return row, key.removeprefix(f"{name}.")
    raise ConfigError(f"{override!r}: `{key}` must be one of the names {names}, a dot, and a key")


def _refuse_unknown(schema: Any, entries: Mapping[str, Any], file: str, prefix: str = "") -> None:
    """Raise for the first key that `schema` lacks, with the one that may be meant."""
    known = {each.name: each.type for each in fields(schema)}
    for key, value in entries.items():
        if key not in known:
            tables = [name for name, kind in known.items() if is_dataclass(kind)]
            inside = [f"{each}.{key}" for each in tables if key in _names(known[each])]
            near = inside or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {sorted(known)}"
            raise ConfigError(f"{file}: unknown key '{prefix}{key}'; {hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{file}: `{prefix}{key}` must be finite, got {value}")
        row_type = _row_type(known[key])
        if row_type is not None and isinstance(value, list):
            for number, row in enumerate(value):
                if isinstance(row, Mapping):  # of another type it is refused later
                    _refuse_unknown(row_type, row, file, f"{prefix}{key}.{number}.")
        if is_dataclass(known[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{file}: `{prefix}{key}` must be a table, got {value!r}")
            _refuse_unknown(known[key], value, file, f"{prefix}{key}.")


def _names(schema: Any) -> set[str]:
    return {each.name for each in fields(schema)}


def _row_type(kind: Any) -> Any:
    """Return the dataclass that a setting is a tuple of; None for another type."""
    inside = get_args(kind)[:1] if get_origin(kind) is tuple else ()
    return next(filter(is_dataclass, inside), None)


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    """Return all settings in a dataclass by their dotted keys; of a tuple of tables by names."""
    flat: dict[str, Any] = {}
    for each in fields(table):
        key, value = prefix + each.name, getattr(table, each.name)
        if is_dataclass(value):
            flat |= _flat(value, f"{key}.")
        elif _row_type(each.type) is not None:
            flat[key] = [row.name for row in value]
            for row in value:
                flat |= _flat(row, f"{key}.{row.name}.")
        else:
            flat[key] = value
    return flat


def _toml_lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value)}" for key, value in table.items()]


def _toml_value(value: object) -> str:
    # A JSON string, number, boolean or list of them is also TOML, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
