"""`receptance generate --input`: write on from each line of a file, into another."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from receptance.cli.progress import progress_bar

if TYPE_CHECKING:
    from receptance.inference import LanguageModel, SamplingParams
    from receptance.models import State

_MAX_SEQUENCES = 16
_ALONE = "--max-sequences must be given with --input"
_HALF = "--input and --output must be given together"

_OPTIONS = (
    click.option(
        "--input",
        "prompts",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help='Write on from each line of a JSONL file, such as {"prompt": "Once"}.',
    ),
    click.option(
        "--output",
        "answers",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Where the texts for --input go, in order; behind those that are there.",
    ),
    click.option(
        "--max-sequences",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"How many texts for --input are written at once.  [default: {_MAX_SEQUENCES}]",
    ),
)


class Files(NamedTuple):
    """Where prompts come from, and their texts go."""

    prompts: Path
    answers: Path
    max_sequences: int


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for many prompts."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def files_of(options: dict[str, Any], *, without: Mapping[str, object]) -> Files | None:
    """Return the files that were given, if any; take those options out of `options`.

    Args:
        options: Of the command line.
        without: What is for one prompt alone, by what the user calls it.

    Raises:
        click.UsageError: If one of them makes no sense with the others.
    """
    prompts, answers = options.pop("prompts"), options.pop("answers")
    max_sequences = options.pop("max_sequences")
    if prompts is None and answers is None:
        if max_sequences is not None:
            raise click.UsageError(_ALONE)
        return None
    if prompts is None or answers is None:
        raise click.UsageError(_HALF)
    for name, given in without.items():
        if given is not None:
            raise click.UsageError(f"{name} is for one text, but --input asks for many; omit one")
    if not prompts.is_file():
        raise click.UsageError(
            f"--input: {str(prompts)!r} must be a file, since it is read more than once"
        )
    if not answers.parent.is_dir():
        raise click.UsageError(f"--output: the folder {str(answers.parent)!r} must exist")
    if answers.exists() and not answers.is_file():
        raise click.UsageError(f"--output: {str(answers)!r} must be a file, to go on behind a kill")
    return Files(prompts, answers, max_sequences or _MAX_SEQUENCES)


def write_many(
    lm: "LanguageModel",
    files: Files,
    params: "SamplingParams",
    state: "State | None",
    *,
    as_json: bool,
) -> None:
    """Write the texts, and say how many they were."""
    from receptance.inference.batch import generate_file

    began = time.perf_counter()
    with progress_bar("answered") as move:
        try:
            report = generate_file(
                lm,
                files.prompts,
                files.answers,
                params,
                state=state,
                max_sequences=files.max_sequences,
                on_progress=move,
            )
        except ValueError as error:  # of a model that diverged, or options that leave no token
            raise click.ClickException(str(error)) from error
    seconds = time.perf_counter() - began
    if as_json:
        per_s = report.generated_tokens / seconds
        document = {**vars(report), "seconds": round(seconds, 6), "tokens_per_s": round(per_s, 3)}
        click.echo(json.dumps(document))
        return
    there = f", {report.resumed} of them before" if report.resumed else ""
    click.echo(f"{report.prompts} prompts answered{there}: {str(files.answers)!r}", err=True)
