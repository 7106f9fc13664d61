"""Tasks of lm-eval-harness found, made and checked, before a model answers any of them."""

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from receptance.errors import ConfigError, ReceptanceError
from receptance.evaluation.tasks.last_words import SUFFIX, last_word_task

SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "shots": 1234}
"""Those of the harness."""
_OF_A_TASK = {
    "build_all_requests": "the prompts of the task {!r} cannot be made of its items",
    "apply_filters": "the filters of the task {!r} cannot take its answers",
    "process_results": "the answers to the task {!r} cannot be scored",
}
"""Methods that run what a task's own files say, with what is told where that fails."""
_NO_POOL = "DISABLE_MULTIPROC"  # a variable of the harness


@dataclass(frozen=True)
class LoadedTasks:
    """Tasks that are ready to be run."""

    harness: Mapping[str, Any]
    """As the harness's `evaluate` takes them."""
    files: Mapping[str, Path]
    """Those that are files of contexts and continuations, by their names."""
    folder: Path | None
    """Where relative paths begin."""
    without_shots: tuple[str, ...]
    """Those that have no shots though some were asked for, as they say 0 themselves."""


def load_tasks(
    tasks: Sequence[str], *, folder: Path | None = None, shots: int | None = None
) -> LoadedTasks:
    """Return tasks, all that can be wrong with them found, but for their single items.

    Args:
        tasks: Names of the harness or of the folder, or files of contexts and continuations.
        folder: Of tasks in the harness's YAML; relative paths in them begin there.
        shots: How many solved examples precede an item; None is as the task says. A task that
            says 0 has none: its prompt has its examples already, or none are known.

    Raises:
        ConfigError: If there is no such task, two have one name, one cannot be made, needs more
            than text, or has no examples to show but the very items that it measures.
        DataError: If a file is wrong.
    """
    files = {Path(name).stem: Path(name) for name in tasks if name.endswith(SUFFIX)}
    names = [name for name in tasks if not name.endswith(SUFFIX)]
    if len(files) + len(set(names)) < len(tasks) or files.keys() & set(names):
        raise ConfigError(f"tasks must have names of their own, but they are {list(tasks)}")
    wanted: list[Task | str] = [*map(last_word_task, files.values()), *names]
    with harness_at(folder):
        manager = _manager(names, None if folder is None else Path())
        _seed()
        with _told(f"the tasks {', '.join(names)} cannot be made"):
            loaded: Mapping[str, Any] = manager.load(wanted)
        without_shots = [
            name for name, task in loaded["tasks"].items() if not _set_shots(task, shots)
        ]
        for name, task in loaded["tasks"].items():
            _check(name, task)
            for method, what in _OF_A_TASK.items():
                told = what.format(name)
                setattr(task, method, _telling(told, getattr(task, method)))
    return LoadedTasks(loaded, files, folder, tuple(without_shots))


@contextlib.contextmanager
def harness_at(folder: Path | None) -> Iterator[None]:
    """Have the harness work in a folder, in one process, and print to stderr.

    What it prints is no part of a result. It forks a pool of processes for standard errors
    otherwise, which is not safe beside threads, and waits for ever for one that has a handler for
    SIGTERM, as this command has.
    """
    before = os.environ.get(_NO_POOL)
    os.environ[_NO_POOL] = "1"
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if folder is not None:
                stack.enter_context(contextlib.chdir(folder))
            yield
    finally:
        os.environ.pop(_NO_POOL)
        if before is not None:
            os.environ[_NO_POOL] = before


def _manager(names: Sequence[str], folder: Path | None) -> TaskManager:
    """Return what knows tasks by name; the harness's own thousands only where they are needed."""
    own = TaskManager(include_path=folder, include_defaults=False)
    # A group may name tasks that are not of its folder.
    if all(name in own.all_tasks and name not in own.all_groups for name in names):
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


def _seed() -> None:
    """Begin all that is drawn as the harness's `simple_evaluate` does."""
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])
    torch.manual_seed(SEEDS["torch"])


def _set_shots(task: Task, shots: int | None) -> bool:
    """Set how many examples a task shows; return whether it shows those that were asked for."""
    said = task.get_config("num_fewshot")
    if said is None or (shots is not None and said != 0):
        task.set_config(key="num_fewshot", value=shots or 0)
    task.set_fewshot_seed(seed=SEEDS["shots"])
    return not (said == 0 and shots)


def _check(name: str, task: Any) -> None:
    """Refuse a task that cannot be run here, or whose figures would mean nothing."""
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(
            f"the task {name!r} runs what the model writes as a program, which is not done here; "
            "lm-eval does it: lm_eval run --model receptance --confirm_run_unsafe_code"
        )
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"a task must be of text alone, but {name!r} is not; leave it out")
    n_shots = task.get_config("num_fewshot") or 0
    if n_shots == 0 or not hasattr(task, "fewshot_cfg"):
        return
    pool, items = _pool(task), task.config.test_split or task.config.validation_split
    # Only where these two are the same does the harness leave an item out of its own examples.
    if pool == items and task.fewshot_cfg.split != task.config.test_split:
        raise ConfigError(
            f"examples of the task {name!r} would be drawn from the items that it measures, and an "
            "item could be its own example; name the split of the items as both `test_split` and "
            "`fewshot_split` in its YAML, which leaves each out of its own, or take --shots 0"
        )
    n_others = len(task.fewshot_docs()) - (pool == items)
    if n_shots > n_others:
        raise ConfigError(
            f"the shots of the task {name!r} must be at most {n_others}, which is how many "
            f"examples it has, but they are {n_shots}; take fewer"
        )


def _pool(task: Any) -> str | None:
    """Return the split of which the harness takes examples; None where a task lists them."""
    config, of_shots = task.config, task.fewshot_cfg
    if (
        of_shots.split is None
        and config.fewshot_config is not None
        and of_shots.samples is not None
    ):
        return None
    return of_shots.split or config.training_split or config.validation_split or config.test_split


def _telling(what: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a task whose errors say what failed."""

    @wraps(method)
    def telling(*args: Any, **options: Any) -> Any:
        with _told(what):
            return method(*args, **options)

    return telling


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn any error of a task's own files, templates and functions into one that names it."""
    try:
        yield
    except ReceptanceError:
        raise
    except Exception as error:  # whatever a template or a function of a task may raise
        raise ConfigError(f"{what}: {type(error).__name__}: {error}") from error
