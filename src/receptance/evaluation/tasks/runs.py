"""Tasks run by lm-eval-harness, and what a result says of them."""

import contextlib
import math
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from receptance.errors import ConfigError, DataError
from receptance.evaluation.provenance import file_entry, start_entry
from receptance.evaluation.results import TaskFigure
from receptance.evaluation.tasks.adapter import HarnessModel
from receptance.evaluation.tasks.last_words import SUFFIX, last_word_task
from receptance.evaluation.tasks.prefix import NONE, parse_prefix
from receptance.inference import LanguageModel

BOOTSTRAP = 1000
"""How often items are drawn anew for the error of a figure that is no mean. The harness's own
100,000 take minutes and change the third digit of the error."""
_evaluate: Callable[..., Any] = lm_eval.evaluate  # its decorator hides its hints
SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "shots": 1234}
"""Those of the harness."""
_NO_POOL = "DISABLE_MULTIPROC"  # a variable of the harness


def run_tasks(
    lm: LanguageModel,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    context_prefix: str = NONE,
    batch_size: int = 16,
    forks: bool = True,
) -> dict[str, Any]:
    """Return the arguments of `Result` for tasks, `settings` among them.

    Args:
        lm: The model, with a tokenizer.
        tasks: Names of the harness or of the folder, or files of contexts and continuations.
        folder: Of tasks in the harness's YAML; relative paths in them begin there.
        shots: How many solved examples precede an item; None is as the task says.
        limit: How many items of each task; None is all.
        context_prefix: What is fed before each context, as `parse_prefix` reads it.
        batch_size: How many texts are read side by side.
        forks: Whether a context that several choices share is read once.

    Raises:
        ConfigError: If there is no such task, or two have one name.
        DataError: If a file or an item is wrong, or a figure is not finite.
    """
    files = {Path(name).stem: Path(name) for name in tasks if name.endswith(SUFFIX)}
    names = [name for name in tasks if not name.endswith(SUFFIX)]
    if len(files) + len(set(names)) < len(tasks) or files.keys() & set(names):
        raise ConfigError(f"tasks must have names of their own, but they are {list(tasks)}")
    model = HarnessModel(
        lm,
        context_prefix=parse_prefix(context_prefix, lm.tokenizer),
        batch_size=batch_size,
        forks=forks,
    )
    wanted: list[Task | str] = [*map(last_word_task, files.values()), *names]
    found = _harness_results(model, wanted, names, folder, shots, limit)
    settings = {
        "harness": f"lm_eval {metadata.version('lm_eval')}",
        "start": start_entry(lm),
        "context_prefix": context_prefix,
        "limit": limit,
        "bootstrap": BOOTSTRAP,
        "seeds": SEEDS,
        "batch_size": batch_size,
        "of": {name: _about(name, found, files.get(name)) for name in found.get("n-samples", {})},
    }
    figures = {name: task_figures(name, each) for name, each in found.get("results", {}).items()}
    return {"tasks": figures, "settings": {"tasks": settings}}


def _harness_results(
    model: HarnessModel,
    wanted: list[Task | str],
    names: Sequence[str],
    folder: Path | None,
    shots: int | None,
    limit: int | None,
) -> Mapping[str, Any]:
    """Return what the harness finds, with `folder` as the working folder meanwhile."""
    with contextlib.ExitStack() as stack:
        # What the harness prints is no part of the result.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(_one_process())
        if folder is not None:
            stack.enter_context(contextlib.chdir(folder))
        manager = _manager(names, None if folder is None else Path())
        found = _evaluate(
            lm=model,
            task_dict=_loaded(wanted, manager, shots),
            limit=limit,
            bootstrap_iters=BOOTSTRAP,
            log_samples=False,
        )
    assert found is not None  # as it is for all processes but the first
    return found


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """Have the harness draw its samples for standard errors in this process.

    It forks a pool of processes otherwise, which is not safe beside threads, and waits for ever for
    one that has a handler for SIGTERM, as this command has.
    """
    before = os.environ.get(_NO_POOL)
    os.environ[_NO_POOL] = "1"
    try:
        yield
    finally:
        os.environ.pop(_NO_POOL)
        if before is not None:
            os.environ[_NO_POOL] = before


def task_figures(task: str, figures: Mapping[str, Any]) -> dict[str, TaskFigure]:
    """Return the figures of a task by their names, each with its error.

    Args:
        task: Its name.
        figures: As the harness has them: "acc,none", "acc_stderr,none" and others. A figure of a
            filter is named with it, "exact_match,strict".

    Raises:
        DataError: If one is not finite.
    """
    found: dict[str, TaskFigure] = {}
    for key, value in figures.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        if not math.isfinite(value):
            raise DataError(
                f"`{metric}` of the task {task!r} must be finite, but it is {value}: did the model "
                "diverge in its training?"
            )
        error = figures.get(f"{metric}_stderr,{filtered}")
        has_error = isinstance(error, float) and math.isfinite(error)
        name = metric if filtered == "none" else key
        found[name] = TaskFigure(value=float(value), stderr=error if has_error else None)
    return found


def _loaded(wanted: list[Task | str], manager: TaskManager, shots: int | None) -> Any:
    """Return tasks ready to run, as the harness's `simple_evaluate` makes them so."""
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])
    torch.manual_seed(SEEDS["torch"])
    loaded = manager.load(wanted)
    for task in loaded["tasks"].values():
        said = task.get_config("num_fewshot")
        # A task that says 0 means it: its prompt has its examples, or none are known.
        if said is None or (shots is not None and said != 0):
            task.set_config(key="num_fewshot", value=shots or 0)
        task.set_fewshot_seed(seed=SEEDS["shots"])
    return loaded


def _manager(names: Sequence[str], folder: Path | None) -> TaskManager:
    """Return what knows tasks by name; the harness's own thousands only where they are needed."""
    own = TaskManager(include_path=folder, include_defaults=False)
    if all(name in own.all_tasks for name in names):
        return own
    manager = TaskManager(include_path=folder)
    for name in names:
        if name not in manager.all_tasks:
            where = "" if folder is None else " or of the folder"
            raise ConfigError(
                f"a task must be one of lm-eval{where}, or a file that ends with {SUFFIX}, but "
                f"there is no {name!r}; `lm_eval ls tasks` lists them"
            )
    return manager


def _about(name: str, found: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """Return what a result says of how a task was run."""
    items = found["n-samples"][name]
    about = {
        "version": found.get("versions", {}).get(name),
        "shots": found.get("n-shot", {}).get(name),
        "items": items["effective"],
        "items_in_all": items["original"],
    }
    if file is not None:
        entry = file_entry(file)
        about |= {"file": entry.path, "sha256": entry.sha256}
    return about
