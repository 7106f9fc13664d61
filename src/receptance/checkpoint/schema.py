"""Weights are checked against the model that they must fill, then put into it without a copy.

The schema is the model itself, built on PyTorch's meta device, where a tensor has a name, a shape
and no memory. Whatever the file format, nothing else comes between a file and a model.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config, build

logger = logging.getLogger(__name__)

STORED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MAX_NAMES_SHOWN = 6


def model_from_weights(
    path: Path, config: RWKV4Config, weights: Mapping[str, Tensor], dtype: torch.dtype | None
) -> RWKV4:
    """Return a model of the shape `config` that holds `weights`.

    Weights which need no other dtype keep their storage, so a memory-mapped file stays mapped.
    Only matrices are of the wanted dtype; all else is float32, as the model computes it.

    Args:
        path: The file that the weights come from, for messages.
        config: The shape.
        weights: The parameters by name, checked here.
        dtype: Of the matrices; None is as stored, except that float16 becomes float32.

    Raises:
        CheckpointError: If a tensor is missing, unknown, of another shape or dtype, or not finite.
    """
    check_sizes(path, config, weights)
    with torch.device("meta"):
        model = build(config)
    check_weights(path, model, weights)
    if dtype is None and any(weight.dtype == torch.float16 for weight in weights.values()):
        logger.info("%r is stored in float16; its matrices become float32", str(path))
    converted = {
        name: weight.to(_dtype_in_model(weight, dtype)) for name, weight in weights.items()
    }
    model.load_state_dict(converted, assign=True)
    return model


def check_sizes(path: Path, config: RWKV4Config, weights: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError unless the tensors can be those of a model as large as `config`.

    It comes before anything is built, so that a lie about a size costs nothing: even a tensor
    without memory cannot be of any size.
    """
    name, shape = "emb.weight", [config.vocab_size, config.n_embd]
    if name in weights and list(weights[name].shape) != shape:
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must have the shape {shape}, but it has "
            f"{list(weights[name].shape)}"
        )
    if name not in weights:
        raise CheckpointError(
            f"{str(path)!r} must hold {name!r}, but it holds {shorten([*weights])}"
        )
    if config.n_layer > len(weights):
        raise CheckpointError(
            f"{str(path)!r} must hold the tensors of {config.n_layer} layers, but it holds only "
            f"{len(weights)} tensors; is it the file of another model?"
        )


def check_weights(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError unless `weights` are all of the model's, and nothing else.

    Args:
        path: The file that the weights come from or go to, for messages.
        model: The schema; its parameters need no values.
        weights: The tensors by name.

    Raises:
        CheckpointError: Naming the file and the tensors that are missing, unknown, of another
            shape, of a dtype that no checkpoint has, or not finite.
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
        if weight.dtype not in STORED_DTYPES:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must be one of {[str(d) for d in STORED_DTYPES]}, but "
                f"it is {weight.dtype}"
            )
    for name, weight in weights.items():
        if not _is_finite(weight):
            raise CheckpointError(
                f"{name!r} in {str(path)!r} must be finite, but some of it is not; the file is "
                "damaged, or its training diverged"
            )


def shorten(names: list[str]) -> str:
    """Return the list as text, cut after a few names."""
    if len(names) <= _MAX_NAMES_SHOWN:
        return str(names)
    shown = ", ".join(repr(name) for name in names[:_MAX_NAMES_SHOWN])
    return f"[{shown}, … {len(names) - _MAX_NAMES_SHOWN} more]"


def _is_finite(weight: Tensor) -> bool:
    """Whether no number is infinite or NaN; both come through to the extremes."""
    # Unlike isfinite().all(), this makes no tensor of the weight's size.
    least, greatest = torch.aminmax(weight.detach())
    return bool(torch.isfinite(least) and torch.isfinite(greatest))


def _dtype_in_model(weight: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Matrices may be of a lower precision; vectors never are."""
    if weight.ndim != 2:
        return torch.float32
    if dtype is not None:
        return dtype
    return torch.float32 if weight.dtype == torch.float16 else weight.dtype
