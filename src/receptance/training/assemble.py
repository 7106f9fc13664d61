"""The parts of a run, put together: a model, what is around it, and its optimizer."""

from typing import NamedTuple

import torch
from torch import nn
from torch.optim import AdamW

from receptance.models import RWKV4, RWKV4Config
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.training.config import RunConfig
from receptance.training.finetuning import build_trainable
from receptance.training.optimization import Objective, build_optimizer, checkpoint_layers
from receptance.training.processes import Ranks, compile_layers, distribute, is_sharded, replicate


class Assembly(NamedTuple):
    """A model that can be trained as soon as it has its values."""

    model: RWKV4
    optimizer: AdamW


def assemble(
    config: RunConfig,
    model_config: RWKV4Config,
    ranks: Ranks,
    quantization: QuantizedFormat | None = None,
) -> Assembly:
    """Return a model with its memory, on this rank, and without values.

    Args:
        config: The run.
        model_config: The shape of its model.
        ranks: The processes that share it.
        quantization: The format of its frozen matrices; None if there are no rounded ones.

    Raises:
        ConfigError: If they cannot share it as the run says.
    """
    with torch.device("meta"):
        model = build_trainable(
            model_config, config.training.dropout, config.finetune, quantization
        )
    if config.training.checkpoint_layers:
        checkpoint_layers(model)
    if config.training.compile and is_sharded(config.training.parallel, ranks):
        compile_layers(model)
    distribute(model, config.training.parallel, ranks)
    return Assembly(model, build_optimizer(model, config.optimizer))


def objective_of(model: RWKV4, config: RunConfig, ranks: Ranks) -> nn.Module:
    """Return what computes the loss of a model that has its values, on the rows of this rank."""
    objective = Objective(
        model,
        auxiliary=config.training.auxiliary_loss,
        precision=config.training.precision,
    )
    if config.training.compile and not is_sharded(config.training.parallel, ranks):
        # In place: a wrapper would give every parameter another name.
        objective.compile(fullgraph=True, dynamic=False)
    return replicate(objective, config.training.parallel, ranks)
