"""The folder of a run: its configuration, its checkpoints, its metrics and its finished model."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch.optim import AdamW

from receptance.atomic import atomic_file, remove_staged
from receptance.errors import ConfigError
from receptance.models import RWKV4, RWKV4Config, build
from receptance.training.checkpoints import Progress, list_checkpoints, load_training
from receptance.training.config import RunConfig, config_to_toml, differences, read_config
from receptance.training.optimizer import build_optimizer

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.toml"


class Run(NamedTuple):
    """What training goes on from."""

    model: RWKV4
    optimizer: AdamW
    progress: Progress


def open_run(
    config: RunConfig, folder: Path, model_config: RWKV4Config, *, resume: str = "auto"
) -> Run:
    """Return a new run in `folder`, or the one that is there as its checkpoint left it.

    Args:
        config: The run; its folder keeps it as `config.toml`.
        folder: Made if it is not there.
        model_config: The shape of the model.
        resume: "auto" goes on from the newest checkpoint if there is one; "never" begins anew and
            refuses a folder with checkpoints; otherwise a checkpoint's path.

    Raises:
        ConfigError: If the run that is there had other settings, the `config.toml` that is there
            is not of a run, or `resume` does not fit.
        CheckpointError: If the checkpoint is missing or damaged.
    """
    chosen = checkpoint_to_resume(config, folder, resume)
    model = build(model_config)
    optimizer = build_optimizer(model, config.optimizer)
    if chosen is None:
        torch.manual_seed(config.seed)
        model.init_weights()
        progress = Progress(step=0, tokens=0, seconds=0.0)
    else:
        progress = load_training(chosen, model, optimizer)
        logger.info("going on from %s", chosen)

    folder.mkdir(parents=True, exist_ok=True)
    remove_staged(folder)
    remove_staged(folder / "checkpoints")
    with atomic_file(folder / CONFIG_FILE) as staged:
        staged.write_text(config_to_toml(config), encoding="utf-8")
    return Run(model, optimizer, progress)


def checkpoint_to_resume(config: RunConfig, folder: Path, resume: str) -> Path | None:
    """Return the checkpoint that a run goes on from, None for none; nothing is changed.

    Args:
        config: The run.
        folder: Its folder.
        resume: As `open_run` takes it.

    Raises:
        ConfigError: If the run that is there had other settings, or `resume` does not fit.
    """
    checkpoints = list_checkpoints(folder / "checkpoints")
    if resume == "never" and checkpoints:
        raise ConfigError(
            f"{str(folder)!r} must be new to begin anew, but it holds checkpoints up to "
            f"{checkpoints[-1].name}; choose another `name`, or remove the folder"
        )
    chosen = checkpoints[-1] if resume == "auto" and checkpoints else None
    if resume not in ("auto", "never"):
        chosen = Path(resume)
    if chosen is not None:
        _check_unchanged(config, folder / CONFIG_FILE)
    else:
        _check_replaceable(folder / CONFIG_FILE)
    return chosen


def _check_replaceable(path: Path) -> None:
    """Raise if the file at `path` is something else than the settings of a run."""
    if not path.exists():
        return
    try:
        read_config(path)
    except ConfigError as error:
        raise ConfigError(
            f"{str(path.parent)!r} must be new or the folder of a run, but its {path.name} is not "
            f"of a run; choose another folder, or move the file away ({error})"
        ) from error


def _check_unchanged(config: RunConfig, path: Path) -> None:
    """Raise if the settings at `path` would have led to other numbers."""
    if not path.exists():
        return
    changed = differences(read_config(path), config)
    if changed:
        raise ConfigError(
            f"to go on, a run must have the settings it began with, in {str(path)!r}, but "
            f"{'; '.join(changed)}. Change them back, or choose another `name` for a new run"
        )
