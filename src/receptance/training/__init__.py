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
    rounding_differences,
)
from receptance.training.initial_weights import (
    load_initial_weights_,
    with_known_initial_weights,
)
from receptance.training.loop import Hooks, autocast, train, training_step
from receptance.training.loss import Loss, language_model_loss
from receptance.training.metrics import METRICS_FILE, Metrics, read_metrics
from receptance.training.optimizer import build_optimizer
from receptance.training.plan import (
    StepPlan,
    marks,
    micro_batch_rows,
    plan_step,
    rows_of_rank,
    samples_before,
    tokens_before,
)
from receptance.training.run_folder import Run, checkpoint_to_resume, open_run
from receptance.training.schedule import learning_rate
from receptance.training.spikes import SpikeConfig

__all__ = [
    "METRICS_FILE",
    "Hooks",
    "Loss",
    "Metrics",
    "Progress",
    "Run",
    "RunConfig",
    "SpikeConfig",
    "StepPlan",
    "autocast",
    "build_optimizer",
    "checkpoint_to_resume",
    "config_to_toml",
    "differences",
    "language_model_loss",
    "learning_rate",
    "list_checkpoints",
    "load_initial_weights_",
    "load_training",
    "marks",
    "micro_batch_rows",
    "open_run",
    "parse_config",
    "plan_step",
    "read_config",
    "read_metrics",
    "rounding_differences",
    "rows_of_rank",
    "samples_before",
    "save_training",
    "tokens_before",
    "train",
    "training_step",
    "with_known_initial_weights",
]
