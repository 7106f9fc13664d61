"""A model that knows the tiny run's text a little, to begin other runs with."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from receptance.checkpoint import save_model
from receptance.models import RWKV4
from receptance.quantization import FORMATS, quantize_model
from receptance.training import RunConfig
from tests.random_models import with_matrices
from tests.training.tiny_run import tiny_config, tiny_train

ROUNDED = tuple(FORMATS)


@cache
def _trained() -> RWKV4:
    with TemporaryDirectory() as folder:
        return tiny_train(tiny_config(training_steps=40), Path(folder))[0].model.eval()


def save_base(precision: Any, folder: Path) -> Path:
    """Write the model with its matrices in a dtype or in a format of `ROUNDED`; return `folder`."""
    model = deepcopy(_trained())
    is_rounded = precision in ROUNDED
    model = quantize_model(model, precision) if is_rounded else with_matrices(model, precision)
    save_model(model, None, folder)
    return folder


def state_config(base: Path, **changed: Any) -> RunConfig:
    """Return a run that trains an initial state."""
    settings = {"optimizer_lr": 5e-2, "schedule_final_lr": 1e-2, **changed}
    return tiny_config(finetune_method="state", training_init_from=str(base), **settings)


def lora_config(base: Path, **changed: Any) -> RunConfig:
    """Return a run that trains an adapter."""
    settings = {"optimizer_lr": 5e-2, "schedule_final_lr": 1e-2, "finetune_rank": 2, **changed}
    return tiny_config(finetune_method="lora", training_init_from=str(base), **settings)
