"""`receptance eval`: how well a model predicts text and solves tasks, in any format."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.cli.eval_tasks import (
    check_prefix,
    check_tasks,
    load_given_tasks,
    measure_tasks,
    task_options,
)
from receptance.cli.eval_text import check, check_folder, measure_text, text_options
from receptance.cli.model_options import load_model, loading_options, model_argument

if TYPE_CHECKING:
    from receptance.evaluation import Result
    from receptance.inference import LanguageModel


@click.command()
@model_argument()
@text_options
@task_options
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
    device: str,
    threads: int | None,
    **options: Any,
) -> None:
    """Measure how well MODEL predicts text, with --text, and solves tasks, with --tasks.

    Of text these are bits per byte, bits per token and perplexity, by token and by word. Each
    document is read to its end in constant memory, from the model's initial state if it has one,
    or with --window in windows. Every figure has a 95 % interval, unless the text is too short.

    With --compare the model in each format reads the same tokens beside the full one, and what
    differs is told with 95 % intervals: bits per byte, the mean KL divergence from the full model,
    and how often both find the same token likeliest; all then read from the zero state.

    Tasks are run by lm-eval-harness (the extra `eval`), from the model's initial state if it has
    one, and every figure has its standard error. A context that several choices share is read once.
    """
    check_tasks(**options)
    check(quantize=quantize, **options)
    _check_files(output, options["plot"])
    tasks = load_given_tasks(options)
    began = time.monotonic()
    lm = load_model(
        model,
        dtype=dtype,
        quantize=quantize,
        tokenizer=tokenizer,
        adapter=adapter,
        device=device,
        threads=threads,
    )
    if tasks is not None:
        check_prefix(lm, options)
    result = partial(_result, lm, model, adapter, began)
    tell = partial(_tell, as_json=as_json, output=output, plot=options["plot"])
    of_text = measure_text(lm, model, adapter, options) if options["texts"] else {}
    of_tasks: dict[str, Any] = {}
    if tasks is not None:
        try:
            of_tasks = measure_tasks(lm, tasks, options)
        except Exception:  # whatever a function of a task may raise
            if of_text:  # what is measured is not lost
                tell(result(of_text, {}))
            raise
    tell(result(of_text, of_tasks))


def _result(
    lm: "LanguageModel",
    model: Path,
    adapter: Path | None,
    began: float,
    of_text: Mapping[str, Any],
    of_tasks: Mapping[str, Any],
) -> "Result":
    """Return all that was measured; `began` is when, by `time.monotonic`."""
    from receptance.evaluation import Result, model_entry, tokenizer_entry, versions

    settings = of_text.get("settings", {}) | of_tasks.get("settings", {})
    return Result(
        model=model_entry(lm, model, adapter),
        tokenizer=tokenizer_entry(lm),
        versions=versions(lm.model.emb.weight.device),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
        **{**of_text, **of_tasks, "settings": settings},
    )


def _tell(result: "Result", *, as_json: bool, output: Path | None, plot: Path | None) -> None:
    """Show what was measured, and then save it: what cannot be saved is not lost so."""
    from receptance.cli.eval_tables import show
    from receptance.evaluation import result_json, save_result

    if as_json:
        click.echo(result_json(result))
    else:
        show(result)
    if output is not None:
        save_result(result, output)
    if plot is not None:
        _draw(result, plot)


def _check_files(output: Path | None, plot: Path | None) -> None:
    """End where what is measured could not be written."""
    for name, path in (("--output", output), ("--plot", plot)):
        if path is not None:
            check_folder(name, path)
    if plot is not None:
        from receptance.plotting import require_matplotlib

        require_matplotlib()


def _draw(result: "Result", path: Path) -> None:
    from receptance.cli.eval_tables import position_chart
    from receptance.plotting import save_picture

    save_picture([position_chart(result)], path)
    click.echo(f"drawn: {path}", err=True)
