"""The networks, one file per version, and the state that they hand on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from receptance.errors import ConfigError
from receptance.models.fingerprint import joined_fingerprint, weight_digest
from receptance.models.linear import ColumnLinear, Linear
from receptance.models.low_rank import (
    ChangedModels,
    LowRank,
    LowRankChanges,
    changed_model,
    require_unchanged,
)
from receptance.models.packed import PackedForward, PackedModel
from receptance.models.rwkv4 import PRESETS, RWKV4, RWKV4Config, RWKV4State
from receptance.models.state import State

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "RWKV4",
    "ChangedModels",
    "ColumnLinear",
    "Linear",
    "LowRank",
    "LowRankChanges",
    "PackedForward",
    "PackedModel",
    "RWKV4Config",
    "RWKV4State",
    "State",
    "build",
    "changed_model",
    "config_from_dict",
    "config_to_dict",
    "joined_fingerprint",
    "require_unchanged",
    "weight_digest",
]

# The architecture's name in a config.json: its config and its model class.
ARCHITECTURES = {"rwkv4": (RWKV4Config, RWKV4)}


def build(config: RWKV4Config) -> RWKV4:
    """Return a model of the shape `config`, without values."""
    _, model_class = ARCHITECTURES[config.architecture]
    return model_class(config)


def config_to_dict(config: RWKV4Config) -> dict[str, Any]:
    """Return `config` as the entries of a config.json."""
    return {"architecture": config.architecture, **config.entries()}


def config_from_dict(entries: Mapping[str, Any]) -> RWKV4Config:
    """Return the config that `config_to_dict` wrote.

    Raises:
        ConfigError: If the architecture is unknown, or a size is missing or impossible.
    """
    architecture = entries.get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ConfigError(
            f"`architecture` must be one of {list(ARCHITECTURES)}, got {architecture!r:.60}"
        )
    config_class, _ = ARCHITECTURES[architecture]
    fields = dataclasses.fields(config_class)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    given = {key: value for key, value in entries.items() if key != "architecture"}
    missing, unknown = needed - set(given), set(given) - {field.name for field in fields}
    if missing or unknown:
        raise ConfigError(
            f"an {architecture} must have the sizes {sorted(needed)}: missing {sorted(missing)}, "
            f"unknown {sorted(unknown)!r:.200}"
        )
    return config_class(**given)
