"""`receptance inspect`: what a checkpoint is, or how far two of them are from each other."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.cli.inspect_tables import (
    agreement_lines,
    description_lines,
    difference_lines,
    difference_table,
    tensor_table,
)
from receptance.cli.model_options import model_argument
from receptance.cli.progress import progress_bar
from receptance.cli.terminal import stdout_console
from receptance.errors import CheckpointError, TokenizerError

if TYPE_CHECKING:
    from receptance.checkpoint import Description
    from receptance.evaluation import Agreement

DIFFERS = 1
"""How a comparison ends that found a difference, as `diff` does."""


@click.command()
@model_argument()
@click.option("--tensors", "with_tensors", is_flag=True, help="List the tensors and their ranges.")
@click.option(
    "--against",
    metavar="OTHER",
    type=click.Path(path_type=Path),
    help="Say where another model differs, and how far.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
def command(model: Path, with_tensors: bool, against: Path | None, as_json: bool) -> None:
    """Show what MODEL is, read whole: format, sizes, tokenizer, hashes, where it comes from.

    Its fingerprint is what saved states and results carry. A model with numbers that are not
    finite, or that would not load for another reason, is shown and ends with 4.

    With --against the tensors of both are set side by side, whatever their formats, and then what
    both predict on a short text. It ends with 0 where all numbers are the same, and with 1 where
    some differ, or a file cannot be read.
    """
    if against is not None:
        if with_tensors:
            message = "--tensors lists one model's; --against has those that differ"
            raise click.UsageError(message)
        _compare(model, against, as_json=as_json)
        return
    from receptance.checkpoint import describe

    with progress_bar("reading") as progress:
        description = describe(model, progress)
    if as_json:
        click.echo(json.dumps(_document(description, with_tensors=with_tensors), indent=2))
    else:
        click.echo("\n".join(description_lines(description)))
        if with_tensors:
            stdout_console().print(tensor_table(description))
    if description.problems:
        raise CheckpointError("; ".join(description.problems[:3]))


def _compare(first: Path, second: Path, *, as_json: bool) -> None:
    """Show how far two models are from each other, and end as `DIFFERS` says."""
    from receptance.checkpoint import difference

    with progress_bar("comparing") as progress:
        found = difference(first, second, progress)
    if not as_json:  # before the models are opened, which may be more than the memory holds
        click.echo("\n".join(difference_lines(found)))
        if found.tensors:
            stdout_console().print(difference_table(found))
    agrees = _agreement(first, second)
    if as_json:
        predicted = {"not_compared": agrees} if isinstance(agrees, str) else asdict(agrees)
        document = {
            "first": str(first),
            "second": str(second),
            **asdict(found),
            "predictions": predicted,
        }
        click.echo(json.dumps(_without_nan(document), indent=2))
    else:
        click.echo("\n".join(agreement_lines(agrees)))
    click.get_current_context().exit(DIFFERS if found.verdict == "differs" else 0)


def _agreement(first: Path, second: Path) -> "Agreement | str":
    """Return how far what two models predict is apart, or why that cannot be said."""
    from receptance.checkpoint import find_model, find_tokenizer
    from receptance.evaluation import agreement, probe_logits, probe_tokens

    try:
        stored = [find_model(first), find_model(second)]
        vocab_size = stored[0].config.vocab_size
        if stored[1].config.vocab_size != vocab_size:
            return "the models have other vocabularies"
        a, b = (find_tokenizer(each, None) for each in stored)
        tokens, read = probe_tokens(a, b, vocab_size)
        # One model at a time is in memory, beside the logits of some tokens.
        one, other = (probe_logits(each.model(None, None), tokens) for each in stored)
    except (CheckpointError, TokenizerError, OSError) as error:
        return str(error)
    return agreement(one, other, read)


def _document(description: "Description", *, with_tensors: bool) -> dict[str, Any]:
    """Return what `--json` writes of one model."""
    document = asdict(description)
    tensors = document.pop("tensors")
    if with_tensors:
        document["tensors"] = [
            {**each, "numbers": tensor.numbers._asdict()}
            for each, tensor in zip(tensors, description.tensors, strict=True)
        ]
    return document


def _without_nan(value: Any) -> Any:
    """Return a document in which no number is one that JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
