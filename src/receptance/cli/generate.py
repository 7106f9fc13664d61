"""`receptance generate`: write on from a prompt."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.cli.generate_files import file_options, files_of, write_many
from receptance.cli.model_options import (
    load_model,
    model_argument,
    model_options,
    sampling_params,
)
from receptance.cli.terminal import shown, stdin_is_terminal
from receptance.errors import DataError

if TYPE_CHECKING:
    from receptance.inference import Generation

_NO_PROMPT = "there must be a PROMPT: give one, or pipe it to stdin"


@click.command()
@model_argument()
@click.argument("prompt", required=False)
@model_options
@click.option(
    "--state",
    "state_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Go on from a state that was saved.",
)
@click.option(
    "--save-state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the state after the text.",
)
@file_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document, at the end.")
def command(
    model: Path,
    prompt: str | None,
    state_file: Path | None,
    save_state: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write on from PROMPT with MODEL.

    The text goes to stdout as it comes, without the prompt. Without PROMPT, or if it is "-", the
    prompt is read from stdin. An empty prompt begins a new text.

    With --input and --output it writes on from many prompts at once. Each line may set what the
    options of the same names set for all.
    """
    many = files_of(options, without={"PROMPT": prompt, "--save-state": save_state})
    text = _read_prompt(prompt) if many is None else ""
    if save_state is not None and not save_state.parent.is_dir():
        raise click.UsageError(f"--save-state: the folder {str(save_state.parent)!r} must exist")
    params = sampling_params(options)
    lm = load_model(model, **options)
    state = None if state_file is None else lm.load_state(state_file)
    if many is not None:
        write_many(lm, many, params, state, as_json=as_json)
        return

    began = time.perf_counter()
    try:
        stream = lm.stream(text, params, state=state)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    piece = ""
    try:
        for piece in stream:
            if not as_json:
                click.echo(shown(piece), nl=False)
    except ValueError as error:  # of a model that diverged, or options that leave no token
        raise click.ClickException(str(error)) from error
    seconds = time.perf_counter() - began

    if as_json:
        click.echo(json.dumps(_document(stream.generation, seconds), ensure_ascii=False))
    elif not piece.endswith("\n"):
        click.echo()
    if save_state is not None:
        stream.generation.state.save(save_state)


def _read_prompt(prompt: str | None) -> str:
    """Return the prompt, from stdin unless it was given."""
    if prompt is not None and prompt != "-":
        return prompt
    if sys.stdin is None or (prompt is None and stdin_is_terminal()):
        raise click.UsageError(_NO_PROMPT)
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"the prompt on stdin must be UTF-8, but it is not: {error}") from error


def _document(generation: "Generation", seconds: float) -> dict[str, object]:
    """Return what `--json` writes; `seconds` are those of prompt and text together."""
    return {
        "text": generation.text,
        "tokens": list(generation.tokens),
        "finish_reason": generation.finish_reason,
        "prompt_tokens": generation.prompt_tokens,
        "generated_tokens": generation.generated_tokens,
        "seed": generation.seed,
        "seconds": round(seconds, 6),
        "tokens_per_s": round(generation.generated_tokens / seconds, 3),
    }
