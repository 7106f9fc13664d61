"""Weights on disk: the model folder, and the formats of others, one a file."""

from receptance.checkpoint.adapter import Adapter, adapted, read_adapter, read_adapter_of
from receptance.checkpoint.adapter import merged as merge_adapter
from receptance.checkpoint.convert import convert_model
from receptance.checkpoint.formats.native import (
    CONFIG_FILE,
    INITIAL_STATE_FILE,
    WEIGHTS_FILE,
    model_files,
    save_model,
    write_files,
)
from receptance.checkpoint.inspection import Description, Difference, describe, difference
from receptance.checkpoint.load import Checkpoint, find_model, hub_name, load_checkpoint
from receptance.checkpoint.schema import check_weights
from receptance.checkpoint.targets import TARGETS
from receptance.checkpoint.tokenizers import find_tokenizer, missing_tokenizer

__all__ = [
    "CONFIG_FILE",
    "INITIAL_STATE_FILE",
    "TARGETS",
    "WEIGHTS_FILE",
    "Adapter",
    "Checkpoint",
    "Description",
    "Difference",
    "adapted",
    "check_weights",
    "convert_model",
    "describe",
    "difference",
    "find_model",
    "find_tokenizer",
    "hub_name",
    "load_checkpoint",
    "merge_adapter",
    "missing_tokenizer",
    "model_files",
    "read_adapter",
    "read_adapter_of",
    "save_model",
    "write_files",
]
