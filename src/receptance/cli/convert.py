"""`receptance convert`: a checkpoint into another format or precision."""

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
    type=click.Choice(["native", "official", "huggingface", "ggml"]),
    default="native",
    show_default=True,
    help="The format: native is our model folder, official the authors' .pth, huggingface a folder "
    "for transformers, ggml a .bin for rwkv.cpp.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the matrices; native has no float16, ggml no bfloat16.  [default: as stored]",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "int4", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]),
    help="Round the matrices: int8 and int4 for native, the others for ggml.",
)
@click.option(
    "--calibrate",
    metavar="TEXTFILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Round to int8 or int4 so that a text like this one suffers least.",
)
@click.option(
    "--tokenizer",
    metavar="SOURCE",
    help="bytes, or the path of a vocabulary, for folders and --calibrate.  [default: the one "
    "beside the weights]",
)
@click.option(
    "--adapter",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Merge an adapter that was trained for SRC into its weights.",
)
@click.option("--force", is_flag=True, help="Replace what is at DST.")
def command(
    source: Path,
    destination: Path,
    calibrate: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Write the model SRC as DST, a folder or a file in any of the formats.

    It is read tensor by tensor, so that it may be larger than the memory, and every number stays as
    it is stored, unless another precision is asked for. Rounded to 8 or 4 bits a model loads at
    once and takes a quarter or a seventh of the memory that it takes in float32.
    """
    from receptance.checkpoint import convert_model
    from receptance.cli.progress import progress_bar

    if destination.exists() and not force:
        raise click.UsageError(f"DST: {str(destination)!r} must not exist yet; --force replaces it")
    options |= {"calibration": _text(calibrate), "replace": force}
    try:
        with progress_bar("converting") as progress:
            convert_model(source, destination, progress=progress, **options)
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
