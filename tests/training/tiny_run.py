"""A run of a model of a few thousand weights on a text that repeats: it learns in seconds."""

from pathlib import Path
from typing import Any

import torch

from receptance.data import Batch
from receptance.training import (
    ALONE,
    Hooks,
    Metrics,
    Progress,
    Ranks,
    Run,
    RunConfig,
    open_run,
    parse_config,
)
from receptance.training import train as train_run

TEXT = b"the cat sat on the mat and the dog ate the hat. "
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "model.n_layer": 2,
    "model.n_embd": 16,
    "data.store": "store",
    "data.ctx_len": 16,
    "data.batch_size": 4,
    "training.steps": 12,
    "training.precision": "float32",
    "optimizer.lr": 5e-3,
    "schedule.final_lr": 1e-3,
    "every.checkpoint_steps": 4,
    "every.validation_steps": 0,
    "every.sample_steps": 0,
}


def tiny_config(**changed: Any) -> RunConfig:
    """Return the run of `SETTINGS`, changed; `optimizer_lr` stands for `optimizer.lr`."""
    settings = SETTINGS | {key.replace("_", ".", 1): value for key, value in changed.items()}
    entries: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        table = entries
        for section in sections:
            table = table.setdefault(section, {})
        table[last] = value
    return parse_config(entries, "tiny")


def tiny_batch(first_sample: int, n_rows: int, segment: int = 0) -> Batch:
    """Return rows of the text, each begun where a generator of its sample's own says."""
    stream = torch.tensor(list(TEXT * 3))
    rows = []
    for sample in range(first_sample, first_sample + n_rows):
        generator = torch.Generator().manual_seed(1000 + sample)
        begin = int(torch.randint(len(TEXT), (), generator=generator)) + 16 * segment
        rows.append(stream.roll(-begin)[:17])
    window = torch.stack(rows)
    tokens = window[:, :-1].contiguous()
    return Batch(tokens, window[:, 1:].contiguous(), resets=tokens == ord("."))


def hooks(losses: list[float] | None = None, **given: Any) -> Hooks:
    """Return hooks that do nothing but append each loss to `losses`, and what is given."""

    def log(metrics: Metrics) -> None:
        if losses is not None:
            losses.append(metrics.loss)

    silent: dict[str, Any] = {
        "log": log,
        "validate": None,
        "sample": lambda *_: None,
        "should_stop": lambda: False,
    }
    return Hooks(**silent | given)


def tiny_train(
    config: RunConfig,
    folder: Path,
    given: Hooks | None = None,
    *,
    resume: str = "auto",
    ranks: Ranks = ALONE,
) -> tuple[Run, Progress]:
    """Open the run in `folder` and train it; return it, and how far it came."""
    run = open_run(config, folder, config.model.build(256), resume=resume, ranks=ranks)
    progress = train_run(run.config, folder, run, tiny_batch, given or hooks(), ranks=ranks)
    return run, progress


def stop_after(n_steps: int) -> Any:
    """Return a `should_stop` that lets so many steps happen."""
    asked = iter(range(n_steps + 1))
    return lambda: next(asked, n_steps) >= n_steps
