"""What is minimised, and which weights are moved how: by arithmetic alone, of tensors and steps.

The loss, its module in the run's precision, and the layers that are computed again for backward;
then the optimizer's groups of parameters, the learning rate of each step, and the judge who keeps a
step from being taken whose loss or gradient is out of all proportion.
"""

from receptance.training.optimization.activation_checkpointing import checkpoint_layers
from receptance.training.optimization.finetuning import FinetuneConfig
from receptance.training.optimization.loss import Loss, language_model_loss
from receptance.training.optimization.objective import Objective
from receptance.training.optimization.optimizer import (
    OptimizerConfig,
    build_optimizer,
    clip_gradient,
    set_learning_rate,
)
from receptance.training.optimization.precision import autocast
from receptance.training.optimization.schedule import ScheduleConfig, learning_rate
from receptance.training.optimization.spikes import (
    APPLY,
    SpikeConfig,
    SpikeGuard,
    SpikeState,
    Verdict,
    write_spike,
)

__all__ = [
    "APPLY",
    "FinetuneConfig",
    "Loss",
    "Objective",
    "OptimizerConfig",
    "ScheduleConfig",
    "SpikeConfig",
    "SpikeGuard",
    "SpikeState",
    "Verdict",
    "autocast",
    "build_optimizer",
    "checkpoint_layers",
    "clip_gradient",
    "language_model_loss",
    "learning_rate",
    "set_learning_rate",
    "write_spike",
]
