"""What a model remembers of the tokens before this call: a value, never changed in place."""

import dataclasses
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from receptance.atomic import atomic_file
from receptance.errors import StateError
from receptance.ops.device import upload
from receptance.tensor_file import tensor_file_parts, tensors_of_bytes, write_tensors

# The hook that checks shapes in the tests takes single methods, in which `Self` has no meaning.
AnyState = TypeVar("AnyState", bound="State")

FORMAT = "receptance-state"
FORMAT_VERSION = "1"
_OWN_METADATA = {"format", "format_version", "architecture", "model"}


@dataclasses.dataclass(frozen=True)
class State(ABC):
    """The memory of a batch of sequences, as named tensors whose second axis is the batch.

    A model class has its own subclass, which declares the tensors. A state belongs to the weights
    that made it: to others its numbers mean nothing, so a saved one carries their fingerprint.
    """

    architecture: ClassVar[str]

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]]
    """Between which numbers each tensor lies, whatever was read: far beyond what happens, and near
    enough that the next token does not overflow."""

    fingerprint: Callable[[], str] | None = dataclasses.field(
        default=None, kw_only=True, compare=False, repr=False
    )
    """Computes the fingerprint of the weights that made this state; None if they gave none."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, each [L, B, ...]."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "fingerprint"]
        return {name: getattr(self, name) for name in names}

    @property
    def batch_size(self) -> int:
        """How many sequences this is the memory of."""
        return next(iter(self.tensors.values())).shape[1]

    def clone(self: AnyState) -> AnyState:
        """Return a copy that shares no storage with this one."""
        return self._map(Tensor.clone)

    def detach(self: AnyState) -> AnyState:
        """Return the same numbers, cut from the graph that computed them."""
        return self._map(Tensor.detach)

    def to(self: AnyState, device: torch.device | str) -> AnyState:
        """Return this state on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def select(self: AnyState, rows: Sequence[int] | Int[Tensor, " rows"]) -> AnyState:
        """Return the memory of the sequences at `rows`, in that order; a row may come twice.

        Args:
            rows: If they are on another device than the CPU, it is waited for, to check them.

        Raises:
            IndexError: If there is no such row.
        """
        index = torch.as_tensor(rows, dtype=torch.long)
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.batch_size:
            raise IndexError(f"`rows` must lie in 0 to {self.batch_size - 1}, got {index.tolist()}")
        there = upload(index, next(iter(self.tensors.values())).device)
        return self._map(lambda tensor: tensor.index_select(1, there))

    @classmethod
    def concatenate(cls: type[AnyState], states: Sequence[AnyState]) -> AnyState:
        """Return one state with the sequences of all `states`, in order."""
        names = states[0].tensors
        joined = {name: torch.cat([s.tensors[name] for s in states], dim=1) for name in names}
        return dataclasses.replace(states[0], **joined)

    def save(self, path: str | Path, fingerprint: str | None = None) -> None:
        """Write this state to a safetensors file, whole or not at all.

        Args:
            path: The file, replaced if it exists. Its folder must exist.
            fingerprint: That of the model which made this state; None is the one it came with.

        Raises:
            ValueError: If there is no fingerprint.
            OSError: If it cannot be written.
        """
        if fingerprint is None and self.fingerprint is not None:
            fingerprint = self.fingerprint()
        if fingerprint is None:
            raise ValueError(
                f"`fingerprint` must be given to save {str(path)!r}, since this state came "
                "with none; pass `model.fingerprint()`"
            )
        with atomic_file(Path(path)) as staged:
            write_tensors(staged, self.tensors, self._metadata(fingerprint))

    def to_bytes(self, fingerprint: str, notes: Mapping[str, str] | None = None) -> bytes:
        """Return the file that `save` writes.

        Args:
            fingerprint: That of the model which made this state.
            notes: Texts by name that are kept beside it.
        """
        metadata = {**(notes or {}), **self._metadata(fingerprint)}
        return b"".join(tensor_file_parts(self.tensors, metadata))

    @classmethod
    def load(
        cls: type[AnyState], path: str | Path, *, like: AnyState, fingerprint: str
    ) -> AnyState:
        """Read a state that `save` wrote, and refuse what is not one of this model.

        Args:
            path: The file.
            like: A state of the model, of any batch size; shapes and dtypes must be its.
            fingerprint: The model's.

        Raises:
            StateError: If the file is missing, damaged, or of another model.
        """
        path, where = Path(path), repr(str(path))
        if not path.is_file():
            raise StateError(f"no state at {where}: the file does not exist")
        try:
            with safe_open(path, framework="pt") as file:
                _check_metadata(where, file.metadata() or {}, cls.architecture, fingerprint)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise StateError(f"{where} is not a safetensors file: {error}") from error
        _check_tensors(where, tensors, like.tensors)
        return cls(**tensors).to(next(iter(like.tensors.values())).device)

    @classmethod
    def from_bytes(
        cls: type[AnyState], content: bytes, *, like: AnyState, fingerprint: str
    ) -> tuple[AnyState, dict[str, str]]:
        """Read a state from anybody's file, and refuse what no model could have come to.

        Args:
            content: What `to_bytes` gave, or says that it did.
            like: A state of the model, of as many sequences.
            fingerprint: The model's.

        Returns:
            The state, which shares no memory with `content`, and the notes beside it.

        Raises:
            StateError: If it is damaged, of another model, or its numbers are out of `BOUNDS`.
        """
        where = "the file"
        try:
            tensors, metadata = tensors_of_bytes(content)
        except ValueError as error:
            raise StateError(f"{where} must be a safetensors file: {error}") from error
        _check_metadata(where, metadata, cls.architecture, fingerprint)
        _check_tensors(where, tensors, like.tensors)
        numbers: dict[str, Any] = {}
        for name, tensor in tensors.items():
            numbers[name] = tensor.clone()
            _check_bounds(name, tensor, like.tensors[name], *cls.BOUNDS[name])
        state = cls(**numbers).to(next(iter(like.tensors.values())).device)
        return state, {key: metadata[key] for key in metadata.keys() - _OWN_METADATA}

    def _metadata(self, fingerprint: str) -> dict[str, str]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "architecture": self.architecture,
            "model": fingerprint,
        }

    def _map(self: AnyState, function) -> AnyState:
        changed = {name: function(tensor) for name, tensor in self.tensors.items()}
        return dataclasses.replace(self, **changed)


def _check_metadata(
    where: str, metadata: Mapping[str, str], architecture: str, fingerprint: str
) -> None:
    expected = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        "model": fingerprint,
    }
    for key, value in expected.items():
        found = metadata.get(key)
        if key == "model" and found != value:
            raise StateError(
                f"{where} must be a state of this model, fingerprint {value[:16]}, but it "
                f"was made by the model {str(found)[:16]}; load that model, quantized as it was, "
                "or make the state anew"
            )
        if found != value:
            raise StateError(f"{where} must have {key} {value!r}, but it has {found!r}")


def _check_tensors(where: str, tensors: dict[str, Tensor], like: dict[str, Tensor]) -> None:
    if sorted(tensors) != sorted(like):
        raise StateError(f"{where} must hold {sorted(like)}, but it holds {sorted(tensors)}")
    for name, tensor in tensors.items():
        batch_free = [*like[name].shape[:1], *like[name].shape[2:]]
        found = list(tensor.shape)
        if tensor.ndim < 2 or [found[0], *found[2:]] != batch_free or found[1] == 0:
            expected = ["B" if axis == 1 else size for axis, size in enumerate(like[name].shape)]
            raise StateError(
                f"{name!r} in {where} must have the shape "
                f"[{', '.join(map(str, expected))}] with B of at least 1, but it has {found}"
            )
        if tensor.dtype != like[name].dtype:
            raise StateError(
                f"{name!r} in {where} must be {like[name].dtype}, but it is {tensor.dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise StateError(f"{name!r} in {where} must be finite, but some of it is not")
    batches = {name: tensor.shape[1] for name, tensor in tensors.items()}
    if len(set(batches.values())) != 1:
        raise StateError(
            f"the tensors in {where} must be of the same batch size, but they are of {batches}"
        )


def _check_bounds(name: str, tensor: Tensor, like: Tensor, least: float, most: float) -> None:
    if tensor.shape != like.shape:
        raise StateError(
            f"{name!r} in the file must have the shape {list(like.shape)}, but it has "
            f"{list(tensor.shape)}"
        )
    if tensor.numel() and not least <= float(tensor.min()) <= float(tensor.max()) <= most:
        raise StateError(
            f"{name!r} in the file must lie within {least:g} and {most:g}, but it does not"
        )
