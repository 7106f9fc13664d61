"""Training: a run is a TOML file, a folder, and a loop to be read downward."""

from receptance.training.allocator import keep_freed_memory
from receptance.training.checkpoints import Checkpoints, Loaded, Progress, SaveReport
from receptance.training.config import (
    RunConfig,
    config_to_toml,
    differences,
    parse_config,
    read_config,
    rounding_differences,
)
from receptance.training.heartbeat import Heartbeat
from receptance.training.history import list_checkpoints
from receptance.training.initial_weights import load_initial_weights_, with_known_initial_weights
from receptance.training.loop import train
from receptance.training.loss import Loss, language_model_loss
from receptance.training.metrics import METRICS_FILE, Metrics, read_metrics
from receptance.training.objective import Objective
from receptance.training.optimizer import build_optimizer
from receptance.training.parallel import whole_model
from receptance.training.peak import peak_flops_per_s
from receptance.training.plan import (
    StepPlan,
    marks,
    micro_batch_rows,
    plan_step,
    rows_of_rank,
    samples_before,
    tokens_before,
)
from receptance.training.precision import autocast
from receptance.training.ranks import ALONE, Ranks, connected
from receptance.training.retention import Retention
from receptance.training.run_folder import Run, checkpoint_to_resume, open_run
from receptance.training.run_lock import run_lock
from receptance.training.schedule import learning_rate
from receptance.training.spikes import APPLY, SpikeConfig, Verdict
from receptance.training.step import StepResult, training_step
from receptance.training.tensorboard import TensorBoardMirror
from receptance.training.trainer import Hooks
from receptance.training.watch import Yardsticks
from receptance.training.whole_tensors import TensorStorage, WholeTensors

__all__ = [
    "ALONE",
    "APPLY",
    "METRICS_FILE",
    "Checkpoints",
    "Heartbeat",
    "Hooks",
    "Loaded",
    "Loss",
    "Metrics",
    "Objective",
    "Progress",
    "Ranks",
    "Retention",
    "Run",
    "RunConfig",
    "SaveReport",
    "SpikeConfig",
    "StepPlan",
    "StepResult",
    "TensorBoardMirror",
    "TensorStorage",
    "Verdict",
    "WholeTensors",
    "Yardsticks",
    "autocast",
    "build_optimizer",
    "checkpoint_to_resume",
    "config_to_toml",
    "connected",
    "differences",
    "keep_freed_memory",
    "language_model_loss",
    "learning_rate",
    "list_checkpoints",
    "load_initial_weights_",
    "marks",
    "micro_batch_rows",
    "open_run",
    "parse_config",
    "peak_flops_per_s",
    "plan_step",
    "read_config",
    "read_metrics",
    "rounding_differences",
    "rows_of_rank",
    "run_lock",
    "samples_before",
    "tokens_before",
    "train",
    "training_step",
    "whole_model",
    "with_known_initial_weights",
]
