"""A model as it lies in a file, and the way from there to a model or to another file."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from receptance.checkpoint.schema import (
    build_on_meta,
    check_finite,
    check_names_and_shapes,
    converted,
    dtype_in_model,
    empty_model,
    model_from_weights,
    say_dtype,
)
from receptance.models import RWKV4, RWKV4Config
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import (
    Importance,
    build_quantized,
    dequantized_tensor,
    quantized_tensor,
)
from receptance.tensor_file import Entry

Format = Literal["native", "official", "huggingface", "ggml"]
"""A model folder; the authors' .pth; a folder of `transformers`; a .bin of rwkv.cpp."""

# Of a mapped file that is read through, what may stay in memory beside the tensor in hand.
_MAX_MAPPED_BYTES = 1 << 26


@dataclass(frozen=True)
class StoredModel:
    """A checkpoint that was found, and of which no weight was read."""

    format: Format
    path: Path
    """The folder or file that was found."""
    weights_path: Path
    """The file of the weights, for messages."""
    config: RWKV4Config
    quantization: QuantizedFormat | None
    """The format of its matrices; None if they are floating-point numbers."""
    open: Callable[[], Mapping[str, Entry]]
    """Describes the tensors, by the authors' names and in the authors' shapes, unchecked. One is
    mapped to memory, or made, when it is read."""
    open_to_read: Callable[[], Mapping[str, Entry]]
    """The same of weights that are only read, which may be more than fit in memory."""
    details: Mapping[str, object] = field(default_factory=dict)
    """What its format alone knows, such as a version, for whoever inspects it."""
    adapter: Path | None = None
    """The file of what is merged into the weights when they are read; None for nothing."""

    def model(
        self,
        dtype: torch.dtype | None,
        quantization: QuantizedFormat | None,
        *,
        keeps_half: bool = False,
    ) -> RWKV4:
        """Return the model with matrices in `dtype` or `quantization`, where None is as stored.

        float16 becomes float32, unless `keeps_half`.

        Weights that need no conversion stay memory-mapped. Those that are rounded are read one
        tensor at a time, so that they are never in memory all at once.

        Raises:
            CheckpointError: If the weights are damaged.
        """
        if quantization in (None, self.quantization):
            return model_from_weights(
                self.weights_path,
                self.config,
                self.open(),
                dtype,
                self.quantization,
                keeps_half=keeps_half,
            )
        tensors = ConvertedTensors(self, dtype, quantization)
        weights = {name: entry.read() for name, entry in tensors.entries().items()}
        tensors.model.load_state_dict(weights, assign=True)
        return tensors.model


class TensorReader:
    """The tensors of a stored model, read one at a time and not kept in memory.

    Args:
        stored: The checkpoint.

    Raises:
        CheckpointError: If the file cannot be read.
    """

    def __init__(self, stored: StoredModel) -> None:
        self._open, self._n_mapped_bytes = stored.open_to_read, 0
        self.entries = stored.open_to_read()
        """What is stored, by name, unchecked."""

    def read(self, name: str) -> Tensor:
        """Return a tensor, perhaps of a file that is mapped to memory that cannot be written.

        Raises:
            CheckpointError: If it cannot be read.
        """
        if self._n_mapped_bytes > _MAX_MAPPED_BYTES:
            # What was read of a mapped file stays in memory until the file is mapped anew.
            self.entries = {}
            self.entries, self._n_mapped_bytes = self._open(), 0
        weight = self.entries[name].read()
        self._n_mapped_bytes += weight.nbytes
        return weight


class CheckedTensors:
    """The tensors of a stored model, each checked and read when it is asked for.

    Args:
        stored: The checkpoint.

    Raises:
        CheckpointError: If names, shapes or dtypes are not those of the model.
    """

    def __init__(self, stored: StoredModel) -> None:
        self.path = stored.weights_path
        self._reader = TensorReader(stored)
        self.model = empty_model(self.path, stored.config, self.entries, stored.quantization)
        """The model that is stored, without values."""
        check_names_and_shapes(self.path, self.model, self.entries)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """What is stored, by name."""
        return self._reader.entries

    def read(self, name: str) -> Tensor:
        """Return a tensor.

        Raises:
            CheckpointError: If it cannot be read, or not all of it is finite.
        """
        weight = self._reader.read(name)
        check_finite(self.path, self.model, name, weight)
        return weight


class ConvertedTensors:
    """The tensors of a stored model as another model holds them, read one at a time.

    Args:
        stored: The checkpoint.
        dtype: Of the matrices; None is as stored, except that float16 becomes float32.
        quantization: What matrices are rounded to; None is as stored.
        calibration: As for `quantize_model`.

    Raises:
        CheckpointError: If names, shapes or dtypes are not those of the model. An entry's `read`
            raises it where a number is not finite.
    """

    def __init__(
        self,
        stored: StoredModel,
        dtype: torch.dtype | None,
        quantization: QuantizedFormat | None,
        calibration: Importance | None = None,
    ) -> None:
        self._source = CheckedTensors(stored)
        self._dtype, self._calibration = dtype, calibration
        say_dtype(self._source.path, self._source.entries, dtype)
        self._is_rounded = quantization not in (None, stored.quantization)
        self.model = self._source.model
        """The model to be, without values."""
        if self._is_rounded:
            assert quantization is not None
            self.model = build_quantized(stored.config, quantization)

    def entries(self) -> dict[str, Entry]:
        """Return the tensors of the model to be by name, each read when it is asked for."""
        entries: dict[str, Entry] = {}
        for name, like in self.model.state_dict().items():
            as_stored = dtype_in_model(self._source.entries[name], self._dtype)
            dtype = like.dtype if self._is_rounded else as_stored
            entries[name] = Entry(dtype, tuple(like.shape), partial(self._read, name, dtype))
        return entries

    def _read(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return a tensor of the model to be."""
        weight = self._source.read(name)
        if self._is_rounded:
            return quantized_tensor(self.model, name, weight, self._calibration)
        return converted(self._source.path, name, weight, dtype)


def plain_tensors(stored: StoredModel, dtype: torch.dtype | None) -> dict[str, Entry]:
    """Return the tensors of a stored model as other programs take them, read one at a time.

    Args:
        stored: The checkpoint. Matrices that are rounded become float32, or what is wanted.
        dtype: Of the matrices, all else being float32; None is as stored, vectors included.

    Raises:
        CheckpointError: If names, shapes or dtypes are not those of the model. An entry's `read`
            raises it where a number is not finite, or not one of the wanted dtype.
    """
    source = CheckedTensors(stored)

    def read(name: str, dtype: torch.dtype) -> Tensor:
        weight = source.read(name)
        if weight.dtype == torch.uint8:
            weight = dequantized_tensor(source.model, name, weight)
        return converted(source.path, name, weight, dtype)

    entries: dict[str, Entry] = {}
    for name, like in build_on_meta(stored.config).state_dict().items():
        stored_as = source.entries[name].dtype
        as_wanted = dtype if dtype is None or like.ndim == 2 else torch.float32
        as_is = torch.float32 if stored_as == torch.uint8 else stored_as
        entries[name] = Entry(
            as_wanted or as_is, tuple(like.shape), partial(read, name, as_wanted or as_is)
        )
    return entries


def main_dtype(tensors: Mapping[str, Entry]) -> torch.dtype:
    """Return the dtype in which most numbers are: that of the matrices, in any language model."""
    sizes: Counter[torch.dtype] = Counter()
    for entry in tensors.values():
        sizes[entry.dtype] += entry.nbytes // entry.dtype.itemsize
    return max(sizes, key=lambda dtype: sizes[dtype])
