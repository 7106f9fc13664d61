"""A quantized model made from a plain one.

The matrices are rounded, that of the head and the embedding included, which are a third of a
small model. Mixes, decay, bonus and norms, of which there are few and all matter, stay float32.
"""

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from receptance.models import RWKV4, Linear, RWKV4Config, build
from receptance.ops.quantized_linear import (
    QuantizedFormat,
    dequantize,
    dequantize_embedding,
)
from receptance.quantization.formats import format_named
from receptance.quantization.layers import QuantizedEmbedding, QuantizedLinear
from receptance.quantization.rounding import quantize_embedding, quantize_weight

Importance = Mapping[str, Float[Tensor, " n_in"]]
"""E[x_k²] of the input of each matrix, by the matrix's name; see `input_importance`."""


def quantize_model(
    model: RWKV4, format: str | QuantizedFormat, calibration: Importance | None = None
) -> RWKV4:
    """Return a model like `model` whose matrices are rounded to `format`.

    Args:
        model: A plain model on the CPU. Not modified, and no memory is shared with it.
        format: A name in `FORMATS`, or any format.
        calibration: What `input_importance` found on a text; None is 1 for every input.

    Raises:
        ValueError: If there is no format of that name, or `model` is quantized already.
    """
    if quantization(model) is not None:
        raise ValueError(f"`model` must be plain, but it is quantized to {quantization(model)}")
    wanted = format_named(format) if isinstance(format, str) else format
    quantized = build_quantized(model.config, wanted)
    weights = {
        name: quantized_tensor(quantized, name, weight, calibration)
        for name, weight in model.state_dict().items()
    }
    quantized.load_state_dict(weights, assign=True)
    return quantized.train(model.training)


def build_quantized(config: RWKV4Config, format: QuantizedFormat) -> RWKV4:
    """Return a model of the shape `config` with quantized layers, without values or memory."""
    with torch.device("meta"):
        model = build(config)
    replace_matrices(model, format)
    return model


def replace_matrices(model: nn.Module, format: QuantizedFormat) -> None:
    """Put quantized layers, without values, where a model's matrices are, on their devices.

    Args:
        model: A plain model, changed in place.
        format: Of the new layers.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Linear):
                n_out, n_in = child.weight.shape
                with child.weight.device:
                    setattr(parent, name, QuantizedLinear(n_in, n_out, format))
            elif isinstance(child, nn.Embedding):
                V, C = child.weight.shape
                with child.weight.device:
                    setattr(parent, name, QuantizedEmbedding(V, C, format))


def quantized_tensor(
    model: RWKV4, name: str, weight: Tensor, calibration: Importance | None = None
) -> Tensor:
    """Return what a quantized model holds in the place of a plain one's tensor.

    A matrix is rounded and packed; all else becomes float32. Beside the result it takes memory
    for a few rows only.

    Args:
        model: The quantized model, which need not hold values.
        name: Of the tensor, in both models.
        weight: The plain model's. Not modified.
        calibration: As for `quantize_model`.
    """
    layer = model.get_submodule(name.rpartition(".")[0])
    if isinstance(layer, QuantizedEmbedding):
        return quantize_embedding(weight, layer.format).data
    if isinstance(layer, QuantizedLinear):
        importance = None if calibration is None else calibration[name]
        return quantize_weight(weight, layer.format, importance).data
    return weight.to(torch.float32, copy=True)


def dequantized_tensor(model: RWKV4, name: str, packed: Tensor) -> Tensor:
    """Return the numbers, in float32, that a packed matrix of a quantized model stands for.

    Args:
        model: The quantized model, which need not hold values.
        name: Of the tensor.
        packed: Its bytes.
    """
    layer = model.get_submodule(name.rpartition(".")[0])
    if isinstance(layer, QuantizedEmbedding):
        return dequantize_embedding(dataclasses.replace(layer.packed_weight(), data=packed))
    assert isinstance(layer, QuantizedLinear)
    return dequantize(dataclasses.replace(layer.packed_weight(), data=packed))


def quantization(model: nn.Module) -> QuantizedFormat | None:
    """Return the format of a model's matrices; None for a plain model."""
    layers = (QuantizedLinear, QuantizedEmbedding)
    formats = (each.format for each in model.modules() if isinstance(each, layers))
    return next(formats, None)
