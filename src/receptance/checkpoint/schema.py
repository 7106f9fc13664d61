"""Weights are checked against the model that they must fill, then put into it without a copy.

The schema is the model itself, built on PyTorch's meta device, where a tensor has a name, a shape
and no memory. Whatever the file format, nothing else comes between a file and a model.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config, build, weight_digest
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import QuantizedEmbedding, QuantizedLinear, build_quantized
from receptance.tensor_file import Entry

logger = logging.getLogger(__name__)

STORED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MAX_NAMES_SHOWN = 6
_MAX_WEIGHTS_PER_BYTE = 4  # twice what 4 bits have


def model_from_weights(
    path: Path,
    config: RWKV4Config,
    entries: Mapping[str, Entry],
    dtype: torch.dtype | None,
    quantization: QuantizedFormat | None = None,
    *,
    keeps_half: bool = False,
) -> RWKV4:
    """Return a model of the shape `config` that holds stored weights.

    Weights which need no other dtype keep their storage, so a memory-mapped file stays mapped.
    Only matrices are of the wanted dtype; all else is float32, as the model computes it.

    Args:
        path: The file that the weights come from, for messages.
        config: The shape.
        entries: The parameters by name, checked here.
        dtype: Of the matrices; None is as stored.
        quantization: The format that the matrices are stored in.
        keeps_half: Whether float16 stays float16; or else it becomes float32, in which the CPU
            computes.

    Raises:
        CheckpointError: If a tensor is missing, unknown, of another shape or dtype, or not finite,
            or has numbers that the wanted dtype lacks.
    """
    model = empty_model(path, config, entries, quantization)
    check_names_and_shapes(path, model, entries)
    say_dtype(path, entries, dtype, keeps_half=keeps_half)
    weights: dict[str, Tensor] = {}
    for name, entry in entries.items():
        weight = entry.read()
        check_finite(path, model, name, weight)
        wanted = dtype_in_model(entry, dtype, keeps_half=keeps_half)
        if wanted == torch.float16 != weight.dtype:
            # float16 does not hold what tells these weights: see `fingerprint`.
            model.source_digests[name] = weight_digest(weight)
        weights[name] = converted(path, name, weight, wanted).contiguous()
    model.load_state_dict(weights, assign=True)
    return model


def empty_model(
    path: Path,
    config: RWKV4Config,
    weights: Mapping[str, Entry],
    quantization: QuantizedFormat | None,
) -> RWKV4:
    """Return a model without values or memory, if the tensors can be those of one so large.

    What is checked comes before anything is built, so that a lie about a size costs nothing: even
    a tensor without memory cannot be of any size.
    """
    name, V, C = "emb.weight", config.vocab_size, config.n_embd
    shape = [V, C] if quantization is None else [*quantization.embedding_shape(V, C)]
    if name in weights and list(weights[name].shape) != shape:
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must have the shape {shape}, but it has "
            f"{list(weights[name].shape)}"
        )
    if name not in weights:
        raise CheckpointError(
            f"{str(path)!r} must hold {name!r}, but it holds {shorten([*weights])}"
        )
    n_bytes = sum(weight.nbytes for weight in weights.values())
    n_tensors = config.n_layer * _tensors_of_a_layer(config)
    # Where it may be only a few that are missing, they are named below.
    if n_tensors > 2 * len(weights) or config.n_parameters > _MAX_WEIGHTS_PER_BYTE * n_bytes:
        raise CheckpointError(
            f"{str(path)!r} must hold the tensors of {config.n_layer} layers of {C} channels, but "
            f"it holds only {len(weights)} tensors of {n_bytes} bytes; is it the file of another "
            "model?"
        )
    if quantization is not None:
        return build_quantized(config, quantization)
    return build_on_meta(config)


def build_on_meta(config: RWKV4Config) -> RWKV4:
    """Return a plain model of the shape `config`, without values or memory."""
    with torch.device("meta"):
        return build(config)


def _tensors_of_a_layer(config: RWKV4Config) -> int:
    """Return how many tensors each layer has."""
    with torch.device("meta"):
        tiny = build(dataclasses.replace(config, n_layer=2, n_embd=1, vocab_size=1))
    return sum(name.startswith("blocks.1.") for name in tiny.state_dict())


def say_dtype(
    path: Path,
    weights: Mapping[str, Entry],
    dtype: torch.dtype | None,
    *,
    keeps_half: bool = False,
) -> None:
    """Log that float16 becomes float32, where nobody asked for float32."""
    if keeps_half:
        return
    if dtype == torch.float16:
        logger.info("float16 is for GPUs; the matrices of %r become float32", str(path))
    elif dtype is None and any(weight.dtype == torch.float16 for weight in weights.values()):
        logger.info("%r is stored in float16; its matrices become float32", str(path))


def check_weights(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError unless `weights` are all of the model's, finite, and nothing else.

    See `check_names_and_shapes` and `check_finite`.
    """
    check_names_and_shapes(path, model, weights)
    for name, weight in weights.items():
        check_finite(path, model, name, weight)


def check_names_and_shapes(
    path: Path, model: nn.Module, weights: Mapping[str, Tensor] | Mapping[str, Entry]
) -> None:
    """Raise a CheckpointError unless `weights` are all of the model's, and nothing else.

    No number is read.

    Args:
        path: The file that the weights come from or go to, for messages.
        model: The schema; its parameters need no values.
        weights: The tensors by name.

    Raises:
        CheckpointError: Naming the file and the tensors that are missing, unknown, of another
            shape, or of a dtype that no checkpoint has.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    unknown = [name for name in weights if name not in expected]
    if missing or unknown:
        raise CheckpointError(
            f"{str(path)!r} must hold exactly the {len(expected)} tensors of this model: "
            f"missing {shorten(missing)}, unknown {shorten(unknown)}"
        )
    for name, parameter in expected.items():
        weight, shape = weights[name], list(parameter.shape)
        if list(weight.shape) != shape:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must have the shape {shape}, but it has "
                f"{list(weight.shape)}"
            )
        is_packed = parameter.dtype == torch.uint8
        dtypes = (torch.uint8,) if is_packed else STORED_DTYPES
        if weight.dtype not in dtypes:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must be one of {[str(d) for d in dtypes]}, but "
                f"it is {weight.dtype}"
            )


def check_finite(path: Path, model: nn.Module, name: str, weight: Tensor) -> None:
    """Raise a CheckpointError unless all numbers of a tensor are finite.

    It reads the tensor once, at the speed of memory, and takes no more memory than its scales do.
    """
    numbers = weight.detach()
    if weight.dtype == torch.uint8:  # any level stands for a number, but not any scale
        layer = model.get_submodule(name.rpartition(".")[0])
        assert isinstance(layer, QuantizedLinear | QuantizedEmbedding)
        numbers = dataclasses.replace(layer.packed_weight(), data=numbers).scales
    if not is_finite(numbers):
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must be finite, but some of it is not; the file is "
            "damaged, or its training diverged"
        )


def too_large(path: Path) -> str:
    """Return the message for weights that cannot be mapped to be used as they are."""
    return (
        f"{str(path)!r} must fit in the memory of this machine to be opened as it is, but it does "
        "not; round it while it is read (`quantize`, to a command as --quantize), or convert it"
    )


def is_finite(numbers: Tensor) -> bool:
    """Return whether all numbers of a tensor that has some are finite."""
    # What is infinite or NaN comes through to the extremes; isfinite().all() makes a tensor of
    # the weight's size and takes ten times as long.
    least, greatest = torch.aminmax(numbers)
    return bool(torch.isfinite(least) and torch.isfinite(greatest))


def check_has_ln0(path: Path, config: RWKV4Config) -> None:
    """Raise a CheckpointError if a model without ln0 is to be written where each must have it."""
    if not config.ln0:
        raise CheckpointError(
            f"{str(path)!r} must hold the norm 'blocks.0.ln0', but that of this model was folded "
            "into its embedding and cannot be had back; convert the original, or to a model "
            "folder, which can do without"
        )


def shorten(names: list[str]) -> str:
    """Return the list as text, cut after a few names."""
    if len(names) <= _MAX_NAMES_SHOWN:
        return f"[{', '.join(f'{name!r:.80}' for name in names)}]"
    shown = ", ".join(f"{name!r:.80}" for name in names[:_MAX_NAMES_SHOWN])
    return f"[{shown}, … {len(names) - _MAX_NAMES_SHOWN} more]"


def dtype_in_model(
    weight: Entry, dtype: torch.dtype | None, *, keeps_half: bool = False
) -> torch.dtype:
    """Return the dtype that a stored tensor has in a model, `dtype` being wanted for matrices.

    Matrices may be of a lower precision, of float16 if `keeps_half`; vectors never are.
    """
    if weight.dtype == torch.uint8:
        return torch.uint8
    if len(weight.shape) != 2:
        return torch.float32
    wanted = weight.dtype if dtype is None else dtype
    return torch.float32 if wanted == torch.float16 and not keeps_half else wanted


def converted(path: Path, name: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a finite tensor in a dtype.

    Raises:
        CheckpointError: If the dtype lacks its numbers.
    """
    if weight.dtype == dtype:
        return weight
    numbers = weight.to(dtype)
    if dtype != torch.float32 and not is_finite(numbers):
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must lie within ±{torch.finfo(dtype).max:g} to be in "
            f"{str(dtype).removeprefix('torch.')}, but it does not; take float32"
        )
    return numbers
