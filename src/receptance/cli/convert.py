"""`receptance convert`: a checkpoint into a model folder of another precision."""

from pathlib import Path
from typing import Any

import click

from receptance.cli.model_options import model_argument
from receptance.errors import DataError


@click.command()
@model_argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["native"]),
    default="native",
    show_default=True,
    help="The format: native is a model folder.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the matrices.  [default: as stored]",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "int4"]),
    help="Round the matrices to 8 or 4 bits a weight.",
)
@click.option(
    "--calibrate",
    metavar="TEXTFILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Round so that a text like this one suffers least.",
)
@click.option(
    "--tokenizer",
    metavar="SOURCE",
    help="bytes, or the path of a vocabulary.  [default: the one beside the weights]",
)
@click.option("--force", is_flag=True, help="Replace what is at DST.")
def command(
    source: Path,
    destination: Path,
    to: str,
    calibrate: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Write the model SRC as the model folder DST.

    It is read tensor by tensor, so that it may be larger than the memory. Rounded to 4 or 8 bits a
    model loads at once and takes a quarter or a seventh of the memory that it takes in float32.
    """
    from receptance.checkpoint import convert_model

    del to  # there is one format to write
    if destination.exists() and not force:
        raise click.UsageError(f"DST: {str(destination)!r} must not exist yet; --force replaces it")
    try:
        convert_model(source, destination, calibration=_text(calibrate), replace=force, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _text(path: Path | None) -> str | None:
    """Return the text of a file."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} must be UTF-8 text, but it is not: {error}") from error
