"""Models of which only a small part is trained, beside frozen weights."""

from receptance.models import RWKV4, RWKV4Config
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.training.finetuning.lora import LoRALinear, LoRAQuantizedLinear, LoRARWKV4
from receptance.training.finetuning.state_tuning import InitialState, StateTunedRWKV4
from receptance.training.optimization import FinetuneConfig

__all__ = [
    "InitialState",
    "LoRALinear",
    "LoRAQuantizedLinear",
    "LoRARWKV4",
    "StateTunedRWKV4",
    "build_trainable",
]


def build_trainable(
    config: RWKV4Config,
    dropout: float,
    finetune: FinetuneConfig,
    quantization: QuantizedFormat | None = None,
) -> RWKV4:
    """Return a model without values, of which those parameters take gradients that are trained.

    Args:
        config: The shape.
        dropout: As for `RWKV4`.
        finetune: What is trained.
        quantization: The format of the frozen matrices; None if they are floating-point numbers.

    Raises:
        ValueError: If all weights are to be trained, and some are rounded.
    """
    if finetune.method == "state":
        return StateTunedRWKV4(config, dropout, quantization)
    if finetune.method == "lora":
        return LoRARWKV4(config, dropout, finetune, quantization)
    if quantization is not None:
        raise ValueError(f"`quantization` must be None to train all weights, got {quantization}")
    return RWKV4(config, dropout)
