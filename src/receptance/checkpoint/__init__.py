"""Weights on disk: the model folder, and the formats of others, one a file."""

from receptance.checkpoint.load import Checkpoint, load_checkpoint
from receptance.checkpoint.native import (
    CONFIG_FILE,
    INITIAL_STATE_FILE,
    WEIGHTS_FILE,
    save_model,
)

__all__ = [
    "CONFIG_FILE",
    "INITIAL_STATE_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "load_checkpoint",
    "save_model",
]
