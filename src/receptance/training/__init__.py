"""Training: a run is a TOML file, a folder, and a loop to be read downward.

The files beside this one are what a run is: begin with `loop`. What they stand on is in rooms:
`planning` (what the steps will do and cost), `optimization` (what is minimised, and how),
`checkpoints`, `metrics` (the figures), and `processes` (the ranks, and what they share).
"""

from receptance.training.checkpoints import (
    Checkpoints,
    Loaded,
    Progress,
    Retention,
    SaveReport,
    TensorStorage,
    WholeTensors,
    list_checkpoints,
)
from receptance.training.config import (
    RunConfig,
    config_to_toml,
    differences,
    parse_config,
    read_config,
    rounding_differences,
)
from receptance.training.finished import ADAPTER_FILE, save_finished
from receptance.training.initial_weights import (
    frozen_quantization,
    load_initial_weights_,
    with_known_initial_weights,
)
from receptance.training.loop import train
from receptance.training.metrics import (
    METRICS_FILE,
    Metrics,
    TensorBoardMirror,
    peak_flops_per_s,
    read_metrics,
)
from receptance.training.optimization import (
    APPLY,
    Loss,
    Objective,
    SpikeConfig,
    Verdict,
    autocast,
    build_optimizer,
    checkpoint_layers,
    language_model_loss,
    learning_rate,
)
from receptance.training.planning import (
    StepPlan,
    marks,
    memory_remedies,
    micro_batch_rows,
    plan_step,
    rows_of_rank,
    samples_before,
    tokens_before,
)
from receptance.training.processes import (
    ALONE,
    Heartbeat,
    Ranks,
    connected,
    keep_freed_memory,
    run_lock,
    whole_model,
)
from receptance.training.run_folder import Run, checkpoint_to_resume, open_run
from receptance.training.step import NOTHING_COUNTS, StepResult, training_step
from receptance.training.trainer import Hooks
from receptance.training.watch import HeldOut, Yardsticks

__all__ = [
    "ADAPTER_FILE",
    "ALONE",
    "APPLY",
    "METRICS_FILE",
    "NOTHING_COUNTS",
    "Checkpoints",
    "Heartbeat",
    "HeldOut",
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
    "checkpoint_layers",
    "checkpoint_to_resume",
    "config_to_toml",
    "connected",
    "differences",
    "frozen_quantization",
    "keep_freed_memory",
    "language_model_loss",
    "learning_rate",
    "list_checkpoints",
    "load_initial_weights_",
    "marks",
    "memory_remedies",
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
    "save_finished",
    "tokens_before",
    "train",
    "training_step",
    "whole_model",
    "with_known_initial_weights",
]
