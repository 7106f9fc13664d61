"""Tasks run by lm-eval-harness, and what a result says of them."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

import lm_eval
from lm_eval.api import metrics

from receptance.errors import DataError
from receptance.evaluation.provenance import file_entry, start_entry
from receptance.evaluation.results import TaskFigure
from receptance.evaluation.tasks.adapter import HarnessModel
from receptance.evaluation.tasks.last_words import perplexity_error
from receptance.evaluation.tasks.loading import SEEDS, LoadedTasks, harness_at
from receptance.evaluation.tasks.prefix import NONE, parse_prefix
from receptance.inference import LanguageModel

BOOTSTRAP = 1000
"""How often items are drawn anew for the error of a figure that is no mean. The harness's own
100,000 take minutes and change the third digit of the error."""
JUDGES = ("output_type", "doc_to_target", "metric_list", "filter_list", "process_results")
"""Of a task's settings, those that make figures of answers."""
_evaluate: Callable[..., Any] = lm_eval.evaluate  # its decorator hides its hints


def run_tasks(
    lm: LanguageModel,
    tasks: LoadedTasks,
    *,
    limit: int | None = None,
    context_prefix: str = NONE,
    batch_size: int = 16,
    forks: bool = True,
) -> dict[str, Any]:
    """Return the arguments of `Result` for tasks, `settings` among them.

    Args:
        lm: The model, with a tokenizer.
        tasks: From `load_tasks`; they can be run once.
        limit: How many items of each task; None is all.
        context_prefix: What is fed before each context, as `parse_prefix` reads it.
        batch_size: How many texts are read side by side.
        forks: Whether a context that several choices share is read once.

    Raises:
        ConfigError: If a prompt cannot be made of an item, or an answer not be scored.
        DataError: If an item is wrong, the model has diverged, or a perplexity of the harness is
            larger than a number can be.
    """
    model = HarnessModel(
        lm,
        context_prefix=parse_prefix(context_prefix, lm.tokenizer),
        batch_size=batch_size,
        forks=forks,
    )
    found = _harness_results(model, tasks, limit)
    settings = {
        "harness": f"lm_eval {metadata.version('lm_eval')}",
        "start": start_entry(lm),
        "context_prefix": context_prefix,
        "limit": limit,
        "bootstrap": BOOTSTRAP,
        "seeds": SEEDS,
        "batch_size": batch_size,
        "of": {name: _about(name, found, tasks) for name in found.get("n-samples", {})},
    }
    figures = {name: task_figures(name, each) for name, each in found.get("results", {}).items()}
    return {"tasks": figures, "settings": {"tasks": settings}}


def _harness_results(
    model: HarnessModel, tasks: LoadedTasks, limit: int | None
) -> Mapping[str, Any]:
    """Return what the harness finds."""
    with harness_at(tasks.folder):
        try:
            found = _evaluate(
                lm=model,
                task_dict=tasks.harness,
                limit=limit,
                bootstrap_iters=BOOTSTRAP,
                log_samples=False,
            )
        except OverflowError as error:
            names = " or ".join(map(repr, _with_perplexity(tasks)))
            raise DataError(
                f"a perplexity of the task {names} is larger than a number can be: the harness "
                "takes that of whole continuations, and these are less likely than e^-709; leave "
                "the task out, or measure its texts by --text"
            ) from error
        assert found is not None  # as it is for all processes but the first
        for name in tasks.files:
            error_of_it = perplexity_error(tasks.harness["tasks"][name], BOOTSTRAP)
            found["results"][name]["perplexity_stderr,none"] = error_of_it
    return found


def _with_perplexity(tasks: LoadedTasks) -> list[str]:
    """Return the tasks that have a perplexity of the harness's; all of them if none has."""
    of_harness = {metrics.perplexity, metrics.weighted_perplexity}
    names = list(tasks.harness["tasks"])
    having = [
        name
        for name in names
        if of_harness.intersection(tasks.harness["tasks"][name].aggregation().values())
    ]
    return having or names


def task_figures(task: str, figures: Mapping[str, Any]) -> dict[str, TaskFigure]:
    """Return the figures of a task by their names, each with its error.

    Args:
        task: Its name.
        figures: As the harness has them: "acc,none", "acc_stderr,none" and others. A figure of a
            filter is named with it, "exact_match,strict". One that is inf is None.

    Raises:
        DataError: If one is no number.
    """
    found: dict[str, TaskFigure] = {}
    for key, value in figures.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        if not value > -math.inf:
            raise DataError(
                f"`{metric}` of the task {task!r} must be finite, but it is {value}: did the model "
                "diverge in its training?"
            )
        error = figures.get(f"{metric}_stderr,{filtered}")
        has_error = isinstance(error, float) and math.isfinite(error)
        name = metric if filtered == "none" else key
        found[name] = TaskFigure(
            value=None if value == math.inf else float(value), stderr=error if has_error else None
        )
    return found


def _about(name: str, found: Mapping[str, Any], tasks: LoadedTasks) -> dict[str, Any]:
    """Return what a result says of how a task was run."""
    items, task = found["n-samples"][name], tasks.harness["tasks"][name]
    about = {
        "version": found.get("versions", {}).get(name),
        "shots": found.get("n-shot", {}).get(name),
        "items": items["effective"],
        "items_in_all": items["original"],
        "requests_sha256": _requests_sha256(task),
    }
    if name in tasks.files:
        entry = file_entry(tasks.files[name])
        return about | {"file": entry.path, "sha256": entry.sha256}
    return about | {"task_sha256": _task_sha256(task)}


def _requests_sha256(task: Any) -> str:
    """Return the hash of all that a model was asked: equal ones are the same prompts."""
    return _sha256([each.request_type, each.args] for each in task.instances)


def _task_sha256(task: Any) -> str:
    """Return the hash of a task's items, their answers among them, and of what judges them."""
    config = task.dump_config()
    judges = {key: config.get(key) for key in JUDGES}
    items = {each.doc_id: each.doc for each in task.instances}
    return _sha256([judges, *items.values()])


def _sha256(entries: Iterable[Any]) -> str:
    """Return a hash of entries; a function among them counts by its name."""
    digest = hashlib.sha256()
    for each in entries:
        text = json.dumps(each, sort_keys=True, default=lambda it: getattr(it, "__name__", str(it)))
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
