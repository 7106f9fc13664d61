"""Small models trained for an experiment, as a user would train them; a killed one goes on."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from receptance.checkpoint import load_checkpoint, save_model
from receptance.cli.training_run import run_training
from receptance.data import TokenStore
from receptance.models import RWKV4, RWKV4Config
from receptance.training import METRICS_FILE, RunConfig, parse_config, read_metrics

LAST_PART = 0.02
"""Of the steps of a run, whose mean loss is the loss at its end."""


class Trained(NamedTuple):
    """A run that has ended."""

    folder: Path
    steps: list[int]
    losses: list[float]
    """In nats a token, of each step."""
    valid: list[tuple[int, float]]
    """The held-out bits per byte, and after how many steps."""

    @property
    def model(self) -> RWKV4:
        """The trained model."""
        return load_checkpoint(self.folder / "model").model


def run_config(name: str, store: TokenStore, settings: Mapping[str, Any]) -> RunConfig:
    """Return a run of its settings.

    Args:
        name: Of the run.
        store: The tokens.
        settings: What the run's file says, but its name and store. Validation is ten times a run,
            and there are no samples, unless they say otherwise.
    """
    steps = settings["training"]["steps"]
    every = {
        "checkpoint_steps": max(steps // 5, 1),
        "keep_checkpoints": 1,
        "validation_steps": max(steps // 10, 1),
        "sample_steps": 0,
        **settings.get("every", {}),
    }
    data = {"store": str(store.path), **settings["data"]}
    return parse_config({"name": name, **settings, "data": data, "every": every}, name)


def train_model(name: str, store: TokenStore, work: Path, settings: Mapping[str, Any]) -> Trained:
    """Train a model from a run's settings, or return the one that is trained already.

    Args:
        name: Of the run, which lies in the folder `runs` of `work`.
        store: The tokens.
        work: The folder of the experiment's scale.
        settings: As `run_config` takes them.

    Raises:
        SystemExit: If the run was interrupted; the same command goes on with it.
    """
    config = run_config(name, store, settings)
    folder = work / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    outcome = run_training(config, folder, resume="auto")
    if not outcome.is_finished:
        raise SystemExit(f"{name} stopped after step {outcome.step}; the same command goes on")
    lines = read_metrics(folder / METRICS_FILE)
    return Trained(
        folder,
        [line["step"] for line in lines],
        [line["loss"] for line in lines],
        [
            (line["step"], line["valid_bits_per_byte"])
            for line in lines
            if "valid_bits_per_byte" in line
        ],
    )


def initial_model(config: RWKV4Config, seed: int) -> RWKV4:
    """Return a model with the values that training begins with; the seed decides them."""
    torch.manual_seed(seed)
    model = RWKV4(config)
    model.init_weights()
    return model


def save_initial(model: RWKV4, work: Path, name: str) -> str:
    """Save a model for `training.init_from`, and return its folder."""
    folder = work / "initial" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, None, folder, replace=True)
    return str(folder)


def train_from(
    model: RWKV4, name: str, store: TokenStore, work: Path, *, steps: int, seed: int = 1
) -> Trained:
    """Train a model from the values that it has, at a learning rate that stays 6e-4.

    Args:
        model: Left as it is.
        name: Of the run.
        store: The tokens; 16 × 128 of them a step.
        work: The folder of the experiment's scale.
        steps: How many.
        seed: Of the order of the samples.
    """
    config = model.config
    return train_model(
        name,
        store,
        work,
        {
            "seed": seed,
            "model": {"n_layer": config.n_layer, "n_embd": config.n_embd},
            "data": {"ctx_len": 128, "batch_size": 16},
            "training": {"steps": steps, "init_from": save_initial(model, work, name)},
            "optimizer": {"lr": 6e-4},
            "schedule": {"kind": "constant"},
        },
    )


def curve_entries(trained: Trained) -> dict[str, Any]:
    """Return what a result says of a run: its curve, and where that ended.

    The last loss is the mean of the last `LAST_PART` of the steps.
    """
    steps, losses = smoothed(trained.steps, trained.losses)
    n_last = max(int(LAST_PART * len(trained.losses)), 1)
    return {
        "steps": steps,
        "losses": losses,
        "last_loss": statistics.fmean(trained.losses[-n_last:]),
        "valid_bits_per_byte": trained.valid[-1][1],
    }


def smoothed(steps: list[int], values: list[float], n_points: int = 100) -> tuple[list, list]:
    """Return a curve of so many points at most, each the mean of the values around it."""
    size = math.ceil(len(values) / n_points)
    parts = range(0, len(values), size)
    return (
        [statistics.fmean(steps[begin : begin + size]) for begin in parts],
        [statistics.fmean(values[begin : begin + size]) for begin in parts],
    )
