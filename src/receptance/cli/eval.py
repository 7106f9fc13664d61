"""`receptance eval`: how well a model predicts text, and how far quantized forms are from it."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from receptance.cli.eval_text import check, check_folder, measure_text, text_options
from receptance.cli.model_options import load_model, loading_options, model_argument


@click.command()
@model_argument()
@text_options
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Write the same document to a file, for `receptance compare`.",
)
def command(
    model: Path,
    as_json: bool,
    output: Path | None,
    dtype: str | None,
    quantize: str | None,
    tokenizer: str | None,
    adapter: Path | None,
    threads: int | None,
    **options: Any,
) -> None:
    """Measure how well MODEL predicts text: bits per byte, bits per token and perplexity.

    Perplexity is told by token and by word. Each document is read to its end in constant memory,
    from the model's initial state if it has one, or with --window in windows. Every figure has a
    95 % interval, unless the text is too short for one.

    With --compare the model in each format reads the same tokens beside the full one, and what
    differs is told with 95 % intervals: bits per byte, the mean KL divergence from the full model,
    and how often both find the same token likeliest; all then read from the zero state.
    """
    check(**options)
    for name, path in (("--output", output), ("--plot", options["plot"])):
        if path is not None:
            check_folder(name, path)
    if options["plot"] is not None:
        from receptance.plotting import require_matplotlib

        require_matplotlib()
    began = time.monotonic()
    lm = load_model(
        model,
        dtype=dtype,
        quantize=quantize,
        tokenizer=tokenizer,
        adapter=adapter,
        threads=threads,
    )
    from receptance.cli.eval_tables import position_chart, show
    from receptance.evaluation import (
        Result,
        model_entry,
        result_json,
        save_result,
        tokenizer_entry,
        versions,
    )

    entry = model_entry(lm, model, adapter)
    measured = measure_text(lm, model, adapter, options)
    result = Result(
        model=entry,
        tokenizer=tokenizer_entry(lm),
        versions=versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
        **measured,
    )
    # Shown first: what cannot be saved is not lost then.
    if as_json:
        click.echo(result_json(result))
    else:
        show(result)
    if output is not None:
        save_result(result, output)
    if options["plot"] is not None:
        from receptance.plotting import save_picture

        save_picture([position_chart(result)], options["plot"])
        click.echo(f"drawn: {options['plot']}", err=True)
