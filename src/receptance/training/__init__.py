"""Training: a run is a TOML file, a folder, and a loop to be read downward."""

from receptance.training.batch_hash import batch_sha256, check_next_batch
from receptance.training.checkpoints import Checkpoints, Loaded, Progress, SaveReport
from receptance.training.config import (
    RunConfig,
    config_to_toml,
    differences,
    parse_config,
    read_config,
)
from receptance.training.history import list_checkpoints
from receptance.training.loop import Hooks, autocast, train, training_step
from receptance.training.loss import Loss, language_model_loss
from receptance.training.metrics import Metrics
from receptance.training.optimizer import build_optimizer
from receptance.training.retention import Retention
from receptance.training.run_folder import Run, checkpoint_to_resume, open_run
from receptance.training.run_lock import run_lock
from receptance.training.schedule import learning_rate
from receptance.training.whole_tensors import TensorStorage, WholeTensors

__all__ = [
    "Checkpoints",
    "Hooks",
    "Loaded",
    "Loss",
    "Metrics",
    "Progress",
    "Retention",
    "Run",
    "RunConfig",
    "SaveReport",
    "TensorStorage",
    "WholeTensors",
    "autocast",
    "batch_sha256",
    "build_optimizer",
    "check_next_batch",
    "checkpoint_to_resume",
    "config_to_toml",
    "differences",
    "language_model_loss",
    "learning_rate",
    "list_checkpoints",
    "open_run",
    "parse_config",
    "read_config",
    "run_lock",
    "train",
    "training_step",
]
