"""Training: a run is a TOML file, a folder, and a loop to be read downward."""

from receptance.training.checkpoints import (
    Progress,
    list_checkpoints,
    load_training,
    save_training,
)
from receptance.training.config import (
    RunConfig,
    config_to_toml,
    differences,
    parse_config,
    read_config,
)
from receptance.training.loop import Hooks, autocast, train, training_step
from receptance.training.loss import Loss, language_model_loss
from receptance.training.metrics import METRICS_FILE, Metrics, read_metrics
from receptance.training.optimizer import build_optimizer
from receptance.training.run_folder import Run, checkpoint_to_resume, open_run
from receptance.training.schedule import learning_rate
from receptance.training.spikes import SpikeConfig
from receptance.training.tensorboard import TensorBoardMirror

__all__ = [
    "METRICS_FILE",
    "Hooks",
    "Loss",
    "Metrics",
    "Progress",
    "Run",
    "RunConfig",
    "SpikeConfig",
    "TensorBoardMirror",
    "autocast",
    "build_optimizer",
    "checkpoint_to_resume",
    "config_to_toml",
    "differences",
    "language_model_loss",
    "learning_rate",
    "list_checkpoints",
    "load_training",
    "open_run",
    "parse_config",
    "read_config",
    "read_metrics",
    "save_training",
    "train",
    "training_step",
]
