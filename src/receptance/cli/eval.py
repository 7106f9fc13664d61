"""`receptance eval`: how well a model predicts text, and how far quantized forms are from it."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.cli.formats import Formats, load_options
from receptance.cli.model_options import load_model, loading_options, model_argument
from receptance.cli.terminal import printable, stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from receptance.evaluation import Comparison, Distance, Estimate, Score


@click.command()
@model_argument()
@click.option(
    "--text",
    "texts",
    required=True,
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of UTF-8 text, one document; may be given again.",
)
@click.option(
    "--compare",
    "formats",
    type=Formats(),
    default=(),
    help="Set the model beside itself in these formats: float32, bfloat16, int8, int4.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="Read no more; the text is cut there.  [default: all]",
)
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
def command(
    model: Path,
    texts: tuple[Path, ...],
    formats: tuple[str, ...],
    max_tokens: int | None,
    as_json: bool,
    **loading: Any,
) -> None:
    """Measure how well MODEL predicts text: bits per byte, bits per token and perplexity.

    Each file is read to its end in constant memory, from the model's initial state if it has one.
    With --compare the model in each format reads the same tokens beside the full one, and what
    differs is told with 95 % intervals: bits per byte, the mean KL divergence from the full model,
    and how often both find the same token likeliest; all then read from the zero state.
    """
    lm = load_model(model, **loading)
    from receptance.evaluation import compare, read_documents, score_documents
    from receptance.inference import load

    end_of_text = lm.tokenizer.end_of_text
    documents = read_documents(texts, lm.tokenizer, max_tokens)
    if not formats:
        start = lm.start_state(None)
        score = score_documents(lm.model, documents, end_of_text=end_of_text, start=start)
        score = _finite(score)
        click.echo(json.dumps(_score(score)) if as_json else _lines(score))
        return
    variants = {
        name: load(
            model, tokenizer=lm.tokenizer, adapter=loading["adapter"], **load_options(name)
        ).model
        for name in formats
    }
    comparison = compare(lm.model, variants, documents, end_of_text=end_of_text)
    _finite(comparison.full)
    if as_json:
        distances = {name: _distance(each) for name, each in comparison.distances.items()}
        click.echo(json.dumps({**_score(comparison.full), "formats": distances}))
        return
    click.echo(_lines(comparison.full) + "\n")
    stdout_console().print(_table(printable(str(model)), comparison))
    if any(each.bits_per_byte.low is None for each in comparison.distances.values()):
        click.echo("the text is too short for 95 % intervals", err=True)


def _finite(score: "Score") -> "Score":
    """Return the score; end where the model's numbers grew beyond all bounds."""
    if not math.isfinite(score.nats):
        message = f"the probabilities of the text must be finite, got {score.nats} nats: did the "
        raise click.ClickException(message + "model diverge in its training?")
    return score


def _score(score: "Score") -> dict[str, float]:
    """Return what `--json` writes of one model."""
    return {
        "bits_per_byte": score.bits_per_byte,
        "bits_per_token": score.bits_per_token,
        "perplexity": score.perplexity,
        "tokens": score.n_tokens,
        "bytes": score.n_bytes,
    }


def _distance(distance: "Distance") -> dict[str, dict[str, float | None]]:
    """Return what `--json` writes of one format: of each figure `value`, `low` and `high`."""
    return {name: each._asdict() for name, each in distance._asdict().items()}


def _lines(score: "Score") -> str:
    """Return one model's figures, for people."""
    return (
        f"bits per byte   {score.bits_per_byte:.4f}\n"
        f"bits per token  {score.bits_per_token:.4f}\n"
        f"perplexity      {score.perplexity:,.3f}\n"
        f"tokens          {score.n_tokens:,}\n"
        f"bytes           {score.n_bytes:,}"
    )


def _table(name: str, comparison: "Comparison") -> "Table":
    """Return how far each format is from the full model, for people."""
    from rich.table import Table

    table = Table(
        title=f"{name}, beside the full model; [95 % interval]",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("format")
    for title in ("bits per byte", "difference", "KL, nats a token", "same likeliest token"):
        table.add_column(title, justify="right")
    table.add_row("full", f"{comparison.full.bits_per_byte:.4f}", "", "", "")
    for format_name, each in comparison.distances.items():
        table.add_row(
            format_name,
            _with_interval(each.bits_per_byte, "{:.4f}"),
            _with_interval(each.difference_percent, "{:+.3f} %"),
            _with_interval(each.kl_nats, "{:.2e}"),
            _with_interval(each.top_1_agreement, "{:.2%}"),
        )
    return table


def _with_interval(estimate: "Estimate", pattern: str) -> str:
    """Return a figure and below it its interval; the figure alone where there is none."""
    value, low, high = estimate
    shown = pattern.format(value)
    if low is None or high is None:
        return shown
    ends = ", ".join(pattern.removesuffix(" %").format(end) for end in (low, high))
    return f"{shown}\n\\[{ends}]"
