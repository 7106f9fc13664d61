"""Adapters: a change of low rank to some matrices of a model, in a small file beside it.

For each matrix W [n_out, n_in], with A [rank, n_in] and B [n_out, rank]:

    W' = W + (alpha / rank) B A

The file is safetensors: `blocks.0.att.key.lora_a` and `…lora_b` for each matrix, in float32, and as
metadata the format, the architecture, the rank, alpha, and the fingerprint of the model that it
changes. To any other model its numbers mean nothing, so it is refused there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from receptance.atomic import atomic_file
from receptance.checkpoint.schema import build_on_meta
from receptance.checkpoint.stored import ConvertedTensors, StoredModel
from receptance.errors import CheckpointError
from receptance.models import (
    Linear,
    LowRank,
    LowRankChanges,
    RWKV4Config,
    joined_fingerprint,
    weight_digest,
)
from receptance.tensor_file import Entry, write_tensors

FORMAT = "receptance-lora"
FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Adapter:
    """What an adapter's file holds."""

    architecture: str
    base: str
    """The fingerprint of the model that it changes."""
    rank: int
    alpha: float
    tensors: dict[str, Tensor]
    """A and B by name: that of the layer, and `.lora_a` or `.lora_b`."""

    def changes(self) -> LowRankChanges:
        """Return what it changes, with alpha / rank in B, for a model that computes with it."""
        scale = self.alpha / self.rank
        layers = {name.rpartition(".")[0] for name in self.tensors}
        return LowRankChanges(
            {
                layer: LowRank(
                    self.tensors[f"{layer}.lora_a"], scale * self.tensors[f"{layer}.lora_b"]
                )
                for layer in sorted(layers)
            }
        )

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        layers = {name.split(".", 2)[2].rpartition(".")[0] for name in self.tensors}
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "architecture": self.architecture,
            "model": self.base,
            "rank": str(self.rank),
            "alpha": repr(self.alpha),
            "targets": ",".join(sorted(layers)),
        }
        with atomic_file(Path(path)) as staged:
            write_tensors(staged, self.tensors, metadata)


def read_adapter(path: str | Path) -> Adapter:
    """Return what is in an adapter's file.

    Raises:
        CheckpointError: If it is missing, damaged, or no adapter of this version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no adapter at {str(path)!r}: the file does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} must be a safetensors file: {error}") from error
    for key, value in {"format": FORMAT, "format_version": FORMAT_VERSION}.items():
        if metadata.get(key) != value:
            raise CheckpointError(
                f"{str(path)!r} must be an adapter, with {key} {value!r}, but it has "
                f"{metadata.get(key)!r}"
            )
    try:
        rank, alpha = int(metadata["rank"]), float(metadata["alpha"])
        adapter = Adapter(metadata["architecture"], metadata["model"], rank, alpha, tensors)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} must say its rank, alpha, architecture and model, but it does not: "
            f"{error}"
        ) from error
    _check_numbers(path, adapter)
    return adapter


def read_adapter_of(
    path: str | Path, config: RWKV4Config, fingerprint: Callable[[], str]
) -> Adapter:
    """Return what is in an adapter's file, if it is of a certain model.

    Args:
        path: The file.
        config: The shape of the model.
        fingerprint: Gives that of the model. It is asked for when the file is found to be whole.

    Raises:
        CheckpointError: As `read_adapter`, or if the adapter is of another model or changes what
            this one does not have.
    """
    path = Path(path)
    adapter = read_adapter(path)
    found = fingerprint()
    if (adapter.architecture, adapter.base) != (config.architecture, found):
        raise CheckpointError(
            f"{str(path)!r} must be an adapter of this model, {config.architecture} with "
            f"the fingerprint {found[:16]}, but it is of the {adapter.architecture} "
            f"{adapter.base[:16]}; load that model, or train the adapter anew"
        )
    _check_shapes(path, adapter, config)
    return adapter


def merged(
    weight: Float[Tensor, "n_out n_in"],
    a: Float[Tensor, "rank n_in"],
    b: Float[Tensor, "n_out rank"],
    scale: float,
) -> Float[Tensor, "n_out n_in"]:
    """Return W + scale B A, computed in float32 and rounded once, to the dtype of W."""
    change = b.float() @ a.float()
    # Not in place: the memory of W may be that of a file.
    return torch.add(weight.float(), change, alpha=scale).to(weight.dtype)


def adapted(stored: StoredModel, path: str | Path) -> StoredModel:
    """Return a stored model with an adapter merged into it, as it is read.

    The weights are read once for their fingerprint.

    Args:
        stored: The model that the adapter names.
        path: The adapter's file.

    Raises:
        CheckpointError: If the file is damaged or of another model, or the model is rounded.
    """
    path = Path(path)
    if stored.quantization is not None:
        raise CheckpointError(
            f"{str(stored.path)!r} must hold plain weights for the adapter {str(path)!r} to be "
            "merged into them, but they are rounded; take the model that it was made from, and "
            "round the result"
        )

    def found() -> str:
        entries = ConvertedTensors(stored, None, None).entries()
        digests = {name: weight_digest(each.read()) for name, each in entries.items()}
        return joined_fingerprint(stored.config, digests)

    adapter = read_adapter_of(path, stored.config, found)
    return replace(
        stored,
        adapter=path,
        open=partial(_entries, stored.open, adapter),
        open_to_read=partial(_entries, stored.open_to_read, adapter),
    )


def _entries(open_weights: Callable[[], Mapping[str, Entry]], adapter: Adapter) -> dict[str, Entry]:
    """Return the entries of a model, of which those that are changed are merged when read."""
    entries = dict(open_weights())
    scale = adapter.alpha / adapter.rank
    for name in adapter.tensors:
        layer, _, part = name.rpartition(".")
        if part == "lora_a":
            a, b = adapter.tensors[name], adapter.tensors[f"{layer}.lora_b"]
            entry = entries[f"{layer}.weight"]
            entries[f"{layer}.weight"] = entry._replace(read=partial(_read, entry, a, b, scale))
    return entries


def _read(entry: Entry, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return merged(entry.read(), a, b, scale)


def _check_numbers(path: Path, adapter: Adapter) -> None:
    """Raise a CheckpointError unless the parts of an adapter are pairs of finite numbers."""
    if adapter.rank < 1 or not math.isfinite(adapter.alpha) or not adapter.tensors:
        raise CheckpointError(
            f"{str(path)!r} must hold matrices of a rank of at least 1 and a finite alpha, but it "
            f"has {len(adapter.tensors)} tensors, rank {adapter.rank} and alpha {adapter.alpha}"
        )
    layers = {name.rpartition(".")[0] for name in adapter.tensors}
    pairs = {f"{layer}.{part}" for layer in layers for part in ("lora_a", "lora_b")}
    if pairs != set(adapter.tensors):
        raise CheckpointError(
            f"{str(path)!r} must hold 'lora_a' and 'lora_b' for each layer, but it holds "
            f"{sorted(adapter.tensors)!r:.200}"
        )
    for name, tensor in adapter.tensors.items():
        is_finite = tensor.dtype == torch.float32 and bool(tensor.isfinite().all())
        if not is_finite:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must be finite float32 numbers, but it is not"
            )


def _check_shapes(path: Path, adapter: Adapter, config: RWKV4Config) -> None:
    """Raise a CheckpointError unless the adapter's matrices fit to the layers of a model."""
    layers = dict(build_on_meta(config).named_modules())
    for name, tensor in adapter.tensors.items():
        layer, _, part = name.rpartition(".")
        module = layers.get(layer)
        if not isinstance(module, Linear):
            raise CheckpointError(f"{str(path)!r} changes {layer!r}, which is no matrix of a layer")
        n_out, n_in = module.weight.shape
        expected = [adapter.rank, n_in] if part == "lora_a" else [n_out, adapter.rank]
        if list(tensor.shape) != expected:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must have the shape {expected}, but it has "
                f"{list(tensor.shape)}"
            )
