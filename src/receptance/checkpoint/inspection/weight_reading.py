"""The weights of a stored model read one at a time, and what their numbers are."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from receptance.checkpoint.schema import check_names_and_shapes, empty_model
from receptance.checkpoint.stored import StoredModel, TensorReader
from receptance.errors import CheckpointError
from receptance.quantization import dequantized_tensor
from receptance.tensor_file import Entry

_CHUNK = 1 << 20  # numbers that are looked at at once: in float64 8 MB


class Numbers(NamedTuple):
    """What the numbers of a tensor are; None where none of them is finite."""

    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    """The root of the mean square distance from the mean."""
    n_not_finite: int
    """How many are infinite or not a number; the figures above leave them out."""


class StoredWeights:
    """The weights of a stored model by name, of which one is in memory at a time.

    Attributes:
        problem: Why they are not those of a model; None if they are.

    Raises:
        CheckpointError: If the file cannot be read.
    """

    def __init__(self, stored: StoredModel) -> None:
        self._reader = TensorReader(stored)
        self.problem: str | None = None
        try:
            path, format = stored.weights_path, stored.quantization
            self._model = empty_model(path, stored.config, self.entries, format)
            check_names_and_shapes(path, self._model, self.entries)
        except CheckpointError as error:
            self.problem = str(error)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """What is stored, by name; to hold on to it holds on to the file that is read."""
        return self._reader.entries

    def read(self, name: str) -> Tensor:
        """Return a weight as it is stored.

        Raises:
            CheckpointError: If it is damaged, as far as its format tells.
        """
        return self._reader.read(name)

    def values(self, name: str, weight: Tensor) -> Tensor:
        """Return the numbers that a stored weight stands for: itself, unless it is rounded."""
        if weight.dtype != torch.uint8 or self.problem is not None:
            return weight
        return dequantized_tensor(self._model, name, weight)


def numbers(values: Tensor) -> Numbers:
    """Return what the numbers of a tensor are, in float64 and in parts of some megabytes."""
    count, mean, squares, n_not_finite = 0, 0.0, 0.0, 0
    least, greatest = math.inf, -math.inf
    for (part,) in chunks(values):
        finite = part[part.isfinite()]
        n_not_finite += len(part) - len(finite)
        if not len(finite):
            continue
        # Chan's way to join the means and the squares of two parts.
        here, n, delta = float(finite.mean()), len(finite), float(finite.mean()) - mean
        squares += float((finite - here).square().sum()) + delta**2 * count * n / (count + n)
        mean += delta * n / (count + n)
        count += n
        least, greatest = min(least, float(finite.min())), max(greatest, float(finite.max()))
    if count == 0:
        return Numbers(None, None, None, None, n_not_finite)
    return Numbers(least, greatest, mean, math.sqrt(squares / count), n_not_finite)


def chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the numbers of tensors of one shape in float64, side by side, some at a time."""
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    for begin in range(0, flat[0].numel(), _CHUNK):
        yield tuple(each[begin : begin + _CHUNK].double() for each in flat)
