"""The processes of a run: which there are, and how they share a model and a folder.

The ranks and how they find each other, one model on several of them (DDP, FSDP2), the files that
tell which rank is lost, the lock that lets only one run into a folder, and the memory that a
process keeps for its tensors.
"""

from receptance.training.processes.allocator import keep_freed_memory
from receptance.training.processes.heartbeat import TRAINING, Heartbeat
from receptance.training.processes.parallel import (
    GradientNorms,
    compile_layers,
    distribute,
    evaluation,
    gradient_norms,
    gradient_sync,
    init_weights,
    is_sharded,
    local_part,
    replicate,
    set_weights,
    whole_model,
)
from receptance.training.processes.ranks import ALONE, Ranks, connected
from receptance.training.processes.run_lock import run_lock

__all__ = [
    "ALONE",
    "TRAINING",
    "GradientNorms",
    "Heartbeat",
    "Ranks",
    "compile_layers",
    "connected",
    "distribute",
    "evaluation",
    "gradient_norms",
    "gradient_sync",
    "init_weights",
    "is_sharded",
    "keep_freed_memory",
    "local_part",
    "replicate",
    "run_lock",
    "set_weights",
    "whole_model",
]
