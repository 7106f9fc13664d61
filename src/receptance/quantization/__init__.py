"""Models of 4 and 8 bit weights, made from plain ones: the matrices are rounded, all else stays."""

from receptance.quantization.calibration import input_importance
from receptance.quantization.formats import FORMATS, format_named
from receptance.quantization.layers import QuantizedEmbedding, QuantizedLinear
from receptance.quantization.quantize import (
    Importance,
    build_quantized,
    dequantized_tensor,
    quantization,
    quantize_model,
    quantized_tensor,
    replace_matrices,
)
from receptance.quantization.rounding import quantize_embedding, quantize_weight

__all__ = [
    "FORMATS",
    "Importance",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "build_quantized",
    "dequantized_tensor",
    "format_named",
    "input_importance",
    "quantization",
    "quantize_embedding",
    "quantize_model",
    "quantize_weight",
    "quantized_tensor",
    "replace_matrices",
]
