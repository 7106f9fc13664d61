"""An adapter in memory, beside the weights that it is of and not merged into them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from receptance.checkpoint import read_adapter_of
from receptance.inference.shared_weights import SharedWeights
from receptance.models import LowRank, LowRankChanges


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """What `LanguageModel.load_adapter` gives: a value for `with_adapter` and for requests.

    It holds only its own matrices, so that many fit beside one model. Requests with the same one
    are computed together.
    """

    path: Path
    """Where it was."""
    base: str
    """The fingerprint of the weights that it is of."""
    fingerprint: str
    """That of those weights with this adapter, which the states carry that come of both."""
    changes: LowRankChanges
    """What it changes, on the device of the weights."""

    def require_fit(self, weights: SharedWeights) -> None:
        """Refuse weights that it was not loaded for.

        Raises:
            ValueError: If they are others, or on another device.
        """
        if self.base != weights.fingerprint:
            raise ValueError(
                "`adapter` must be of the weights of this model, with the fingerprint "
                f"{weights.fingerprint[:16]}, but {str(self.path)!r} is of {self.base[:16]}; load "
                "one that was trained for this model"
            )
        wanted = weights.model.emb.weight.device
        found = {pair.a.device for pair in self.changes.layers.values()}
        if found != {wanted}:
            raise ValueError(
                f"`adapter` must be on the device of this model, {wanted}, but {str(self.path)!r} "
                f"is on {', '.join(map(str, found))}; load it by this model's `load_adapter`"
            )


def read_loaded_adapter(path: str | Path, weights: SharedWeights) -> LoadedAdapter:
    """Return an adapter of some weights.

    Raises:
        CheckpointError: If the file is missing or damaged, or is of other weights.
    """
    adapter = read_adapter_of(path, weights.model.config, lambda: weights.fingerprint)
    changes = adapter.changes()
    device = weights.model.emb.weight.device
    moved = {
        name: LowRank(*(each.to(device) for each in pair)) for name, pair in changes.layers.items()
    }
    return LoadedAdapter(
        Path(path), adapter.base, _fingerprint(adapter.base, changes), LowRankChanges(moved)
    )


def _fingerprint(base: str, changes: LowRankChanges) -> str:
    """Return a hash of the weights and of all numbers that change them."""
    total = hashlib.sha256(base.encode())
    for name, pair in sorted(changes.layers.items()):
        total.update(name.encode())
        for matrix in pair:
            total.update(matrix.contiguous().numpy().data)
    return total.hexdigest()
