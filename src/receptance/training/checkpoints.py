"""The checkpoints of a run: all that it needs to go on as if it had never stopped.

checkpoints/step-00001234/
    model/                  a model folder, which every verb opens
    optimizer.safetensors   the moments, by the parameter's name
    training.json           the step, and what else is a number
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim import AdamW

from receptance.atomic import atomic_folder
from receptance.checkpoint import load_checkpoint, save_model
from receptance.errors import CheckpointError
from receptance.models import RWKV4
from receptance.tensor_file import write_tensors
from receptance.tokenizer import Tokenizer

FORMAT = "receptance-training"
FORMAT_VERSION = 1


class Progress(NamedTuple):
    """How far a run is."""

    step: int
    """Steps done."""
    tokens: int
    """Tokens trained on."""
    seconds: float
    """Spent training, over all parts of the run."""


def save_training(
    folder: Path,
    model: RWKV4,
    optimizer: AdamW,
    progress: Progress,
    tokenizer: Tokenizer | None,
    *,
    keep: int,
) -> Path:
    """Write a checkpoint of a run into `folder`, whole or not at all, and remove others.

    Old ones go, and so do those of later steps: a run that went back does these steps again.

    Args:
        folder: The run's `checkpoints`, made if it is not there.
        model: The model, with its master weights.
        optimizer: Its optimizer, over all of its parameters.
        progress: How far the run is.
        tokenizer: What its tokens are of.
        keep: How many of the newest checkpoints stay.

    Returns:
        The checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{progress.step:08d}"
    with atomic_folder(path, replace=True) as staged:
        save_model(model, tokenizer, staged / "model")
        write_tensors(staged / "optimizer.safetensors", _moments(model, optimizer))
        entries = {"format": FORMAT, "format_version": FORMAT_VERSION, **progress._asdict()}
        (staged / "training.json").write_text(json.dumps(entries, indent=2) + "\n")
    checkpoints = list_checkpoints(folder)
    until_now = checkpoints[: checkpoints.index(path) + 1]
    for other in set(checkpoints) - set(until_now[-keep:]):
        shutil.rmtree(other, ignore_errors=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's `checkpoints`, oldest first."""
    return sorted(folder.glob("step-*"))


def load_training(path: Path, model: RWKV4, optimizer: AdamW) -> Progress:
    """Set `model` and `optimizer` to what a checkpoint holds, and return how far the run was.

    Raises:
        CheckpointError: If the checkpoint is missing, damaged or of a model of another shape.
    """
    progress = _read_progress(path / "training.json")
    loaded = load_checkpoint(path / "model", dtype="float32").model
    if loaded.config != model.config:
        raise CheckpointError(
            f"{str(path)!r} must hold a model of this run, {model.config}, but it holds "
            f"{loaded.config}"
        )
    model.load_state_dict(loaded.state_dict())
    _restore_moments(path / "optimizer.safetensors", model, optimizer, progress.step)
    return progress


def _moments(model: RWKV4, optimizer: AdamW) -> dict[str, torch.Tensor]:
    moments = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        moments[f"{name}.exp_avg"] = state["exp_avg"]
        moments[f"{name}.exp_avg_sq"] = state["exp_avg_sq"]
    return moments


def _restore_moments(path: Path, model: RWKV4, optimizer: AdamW, step: int) -> None:
    try:
        moments = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} must be a safetensors file: {error}") from error
    for name, parameter in model.named_parameters():
        state: dict[str, torch.Tensor] = {"step": torch.tensor(float(step))}
        for moment in ("exp_avg", "exp_avg_sq"):
            value = moments.get(f"{name}.{moment}")
            if value is None or _form(value) != _form(parameter):
                raise CheckpointError(
                    f"{str(path)!r} must hold '{name}.{moment}' as {_form(parameter)}, but it has "
                    f"{'none' if value is None else _form(value)}"
                )
            state[moment] = value
        optimizer.state[parameter] = state


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _read_progress(path: Path) -> Progress:
    try:
        entries = json.loads(path.read_text())
        if entries["format"] != FORMAT or entries["format_version"] != FORMAT_VERSION:
            found = f"{entries['format']} {entries['format_version']}"
            raise CheckpointError(
                f"{str(path)!r} must be of the format {FORMAT} {FORMAT_VERSION}, but it is {found}"
            )
        return Progress(int(entries["step"]), int(entries["tokens"]), float(entries["seconds"]))
    except OSError as error:
        folder = path.parent
        inside = [*list_checkpoints(folder / "checkpoints"), *list_checkpoints(folder)]
        example = "name one such as 'runs/NAME/checkpoints/step-00000100'"
        hint = f"did you mean {str(inside[-1])!r}?" if inside else example
        raise CheckpointError(
            f"no training checkpoint at {str(folder)!r}: {path.name}: {error.strerror}; {hint}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{str(path)!r} must be JSON with step, tokens and seconds: {error!r}"
        ) from error
