"""`receptance bench`: how fast a model decodes and reads, beside what the machine can do."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receptance.cli.bench_tables import show
from receptance.cli.formats import Formats, load_options
from receptance.cli.model_options import MAX_THREADS, model_argument
from receptance.errors import ConfigError

if TYPE_CHECKING:
    from receptance.models import RWKV4

DEFAULT_SIZE = "169m"
PICTURES = (".png", ".svg")


class BatchSizes(click.ParamType[tuple[int, ...]]):
    """Numbers of sequences with commas between them."""

    name = "batch sizes"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how the help shows the value."""
        del param, ctx
        return "N,…"

    def convert(
        self,
        value: str | tuple[int, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, ...]:
        """Return the numbers, ascending and each of them once."""
        if isinstance(value, tuple):
            return value
        numbers = value.split(",")
        if not all(each.strip().isdecimal() and int(each) > 0 for each in numbers):
            self.fail(f"batch sizes must be positive integers, got {value!r}", param, ctx)
        return tuple(sorted({int(each) for each in numbers}))


@click.command()
@model_argument(required=False)
@click.option(
    "--size",
    help="Instead of MODEL, random weights of this shape: 169m, 430m, 1.5b, 3b, 7b or 14b."
    f"  [default: {DEFAULT_SIZE}]",
)
@click.option(
    "--format",
    "formats",
    type=Formats(),
    default="float32,bfloat16,int8,int4",
    show_default=True,
    help="Of the weights. All of them are in memory at once.",
)
@click.option(
    "--batch",
    "batch_sizes",
    type=BatchSizes(),
    default="1,2,4,8,16",
    show_default=True,
    help="How many sequences are decoded side by side.",
)
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="How many each sequence is decoded for in a round.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(1, MAX_THREADS),
    help="To compute with.  [default: PyTorch's choice]",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png|.svg",
    help="Draw tokens per second against the batch size.",
)
def command(
    model: Path | None,
    size: str | None,
    formats: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    prompt_tokens: int,
    tokens: int,
    rounds: int,
    threads: int | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure how fast MODEL, or random weights, decode and read a prompt.

    The speed at which this machine reads memory and multiplies matrices is measured in the same
    rounds, and every speed is set beside it. Speeds are medians over the rounds.
    """
    if model is not None and size is not None:
        raise click.UsageError(f"one of MODEL and --size must be given, got {model} and {size}")
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise click.UsageError(f"--plot must end with .png or .svg, got {str(plot)!r}")
    if plot is not None and not plot.parent.is_dir():
        raise click.UsageError(f"--plot: the folder {str(plot.parent)!r} must exist")
    import torch

    from receptance.benchmark import Settings, chart, measure
    from receptance.plotting import save_picture

    if threads is not None:
        torch.set_num_threads(threads)
    settings = Settings(
        batch_sizes=batch_sizes, prompt_tokens=prompt_tokens, tokens=tokens, rounds=rounds
    )
    makers = {
        name: _random(size or DEFAULT_SIZE, name) if model is None else _loaded(model, name)
        for name in formats
    }
    report = measure(makers, settings, tell=lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        show(report)
    if plot is not None:
        save_picture([chart(report)], plot)
        click.echo(f"drawn: {plot}", err=True)


def _loaded(path: Path, format: str) -> "Callable[[], RWKV4]":
    """Return what loads a model in a format."""
    from receptance.inference import load

    return lambda: load(path, **load_options(format)).model


def _random(size: str, format: str) -> "Callable[[], RWKV4]":
    """Return what makes random weights of a size in a format."""
    from receptance.benchmark import random_model
    from receptance.models import RWKV4Config

    try:
        config = RWKV4Config.preset(size)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--size") from error
    return lambda: random_model(config, format)
