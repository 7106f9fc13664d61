"""Models of which only a small part is trained, beside frozen weights."""

from receptance.models import RWKV4, RWKV4Config
from receptance.training.finetuning.lora import LoRALinear, LoRARWKV4
from receptance.training.finetuning.state_tuning import InitialState, StateTunedRWKV4
from receptance.training.optimization import FinetuneConfig

__all__ = ["InitialState", "LoRALinear", "LoRARWKV4", "StateTunedRWKV4", "build_trainable"]


def build_trainable(config: RWKV4Config, dropout: float, finetune: FinetuneConfig) -> RWKV4:
    """Return a model without values, of which those parameters take gradients that are trained.

    Args:
        config: The shape.
        dropout: As for `RWKV4`.
        finetune: What is trained.
    """
    if finetune.method == "state":
        return StateTunedRWKV4(config, dropout)
    if finetune.method == "lora":
        return LoRARWKV4(config, dropout, finetune)
    return RWKV4(config, dropout)
