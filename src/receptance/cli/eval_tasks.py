"""The part of `receptance eval` that runs tasks: its options, and what they measure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from receptance.evaluation.tasks import LoadedTasks
    from receptance.inference import LanguageModel

_OPTIONS = (
    click.option(
        "--tasks",
        multiple=True,
        metavar="NAME,…",
        help="Tasks of lm-eval or of --task-folder, or files (.jsonl) of contexts and "
        "continuations; may be given again.",
    ),
    click.option(
        "--task-folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Tasks of your own in lm-eval's YAML; relative paths in them begin there. Python code "
        "that they name runs.",
    ),
    click.option(
        "--shots",
        type=click.IntRange(min=0),
        help="Solved examples before each item, but for tasks that say 0 themselves.  [default: as "
        "the task says]",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Items of each task.  [default: all]"),
    click.option(
        "--context-prefix",
        metavar="PREFIX",
        help=r"What is fed before each context: none, end_of_text, a text (\n and \t are "
        "understood), or token ids with commas between them.  [default: none]",
    ),
)


_NOTHING = "--text or --tasks must be given, or both; there is neither"
_OF_TASKS = {"task_folder", "shots", "limit", "context_prefix"}
_OF_TEXT = {
    "document_start", "separator", "text_field", "window", "stride", "by_position", "plot",
    "formats", "max_tokens",
}  # fmt: skip


def task_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose tasks and how they are run."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _check_given() -> None:
    """End as wrong usage where nothing is to be measured, or options are of what is not."""
    context = click.get_current_context()
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if not given & {"texts", "tasks"}:
        raise click.UsageError(_NOTHING)
    for kind, of_it, main in (("text", _OF_TEXT, "texts"), ("tasks", _OF_TASKS, "tasks")):
        for option in context.command.params:
            if option.name in given & of_it and main not in given:
                name = option.opts[0]
                raise click.UsageError(f"{name} is of {kind}, but there is no --{kind}; give one")


def check_tasks(*, tasks: Sequence[str], **_: Any) -> None:
    """End as wrong usage where nothing is to be measured, or options or a file go with nothing."""
    _check_given()
    for name in task_names(tasks):
        if name.endswith(".jsonl") and not Path(name).is_file():
            raise click.UsageError(f"--tasks: there is no file {name!r}")


def task_names(tasks: Sequence[str]) -> list[str]:
    """Return the names in the values of `--tasks`, which may have commas between them."""
    return [name for each in tasks for name in map(str.strip, each.split(",")) if name]


def load_given_tasks(options: Mapping[str, Any]) -> "LoadedTasks | None":
    """Return the tasks that are to be run, made and checked; None for none.

    Args:
        options: Of `task_options`.

    Raises:
        ReceptanceError: If lm-eval is not installed, or as `load_tasks`.
    """
    if not options["tasks"]:
        return None
    from receptance.errors import ReceptanceError

    try:
        from receptance.evaluation.tasks import load_tasks
    except ModuleNotFoundError as error:
        raise ReceptanceError(
            f"tasks are run by lm-eval, of which {error.name!r} is not installed; install it with: "
            "pip install 'receptance[eval]'"
        ) from error
    tasks = load_tasks(
        task_names(options["tasks"]), folder=options["task_folder"], shots=options["shots"]
    )
    for name in tasks.without_shots:
        click.echo(f"{name} has no shots: it says `num_fewshot: 0` itself", err=True)
    return tasks


def check_prefix(lm: "LanguageModel", options: Mapping[str, Any]) -> None:
    """End where the text before each context is none that the model can read."""
    from receptance.evaluation.tasks import parse_prefix

    parse_prefix(options["context_prefix"] or "none", lm.tokenizer)


def measure_tasks(
    lm: "LanguageModel", tasks: "LoadedTasks", options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of `Result` for tasks, its settings among them.

    Args:
        lm: The model.
        tasks: From `load_given_tasks`.
        options: Of `task_options`.

    Raises:
        ReceptanceError: As `run_tasks`.
    """
    from receptance.evaluation.tasks import run_tasks

    return run_tasks(
        lm,
        tasks,
        limit=options["limit"],
        context_prefix=options["context_prefix"] or "none",
    )
