"""Checkpoints of the run of `tiny_run`."""

from pathlib import Path
from typing import Any

from receptance.models import RWKV4, RWKV4Config
from receptance.training import Checkpoints, Loaded, Progress, build_optimizer
from receptance.training.checkpoints.whole_tensors import WholeTensors
from tests.training.tiny_run import tiny_config


def at(step: int, tokens: int = 0) -> Progress:
    """Return how far a run is after so many steps."""
    return Progress(step, tokens, 4 * step, 0.5)


def empty(folder: Path, n_embd: int = 16, **settings: Any) -> tuple[RWKV4, Any, Checkpoints]:
    """Return a model without values, its optimizer, and the checkpoints in `folder`."""
    config = RWKV4Config(n_layer=2, n_embd=n_embd, vocab_size=256)
    model = RWKV4(config)
    optimizer = build_optimizer(model, tiny_config().optimizer)
    return model, optimizer, Checkpoints(folder, WholeTensors(config, None), **settings)


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(each.name for each in folder.iterdir())


def load(path: Path, n_embd: int = 16) -> Loaded:
    """Return what a new model of the run goes on from after it loaded a checkpoint."""
    model, optimizer, checkpoints = empty(path.parent, n_embd)
    return checkpoints.load(path, model, optimizer)
