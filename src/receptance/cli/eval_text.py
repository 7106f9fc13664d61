"""The part of `receptance eval` that reads text: its options, and what they measure."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.cli.formats import Formats, load_options

if TYPE_CHECKING:
    from receptance.data import Boundaries
    from receptance.evaluation import Document
    from receptance.inference import LanguageModel

CHUNK_TOKENS, BATCH_SIZE = 512, 16
"""How much is read at once. Neither changes a figure but in its rounding."""
COMPARE_ALONE = "--compare reads whole documents and sums them up, so {} must not be given with it"

_OPTIONS = (
    click.option(
        "--text",
        "texts",
        multiple=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file of UTF-8 text, one document, or of records (.jsonl, .parquet), one document "
        "each; may be given again.",
    ),
    click.option(
        "--document-start",
        metavar="REGEX",
        help="What the first line of each document of a text matches.",
    ),
    click.option("--separator", help=r"The text between two documents; \n and \t are understood."),
    click.option(
        "--text-field",
        metavar="FIELD",
        help="Of records: the field of the text.  [default: told from the fields]",
    ),
    click.option(
        "--window",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        help="Read windows of so many tokens, the state new at each, as Transformers are measured."
        "  [default: whole documents, the state carried]",
    ),
    click.option(
        "--stride",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        help="With --window: begin the next one so many tokens on.  [default: half a window]",
    ),
    click.option(
        "--by-position", is_flag=True, help="Tell the loss by the place in the document, too."
    ),
    click.option(
        "--plot",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.png|.svg",
        help="Draw the loss by the place in the document.",
    ),
    click.option(
        "--compare",
        "formats",
        type=Formats(),
        default=(),
        help="Set the model beside itself in these formats: float32, bfloat16, int8, int4.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        help="Read no more; the text is cut there.  [default: all]",
    ),
)


def text_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a text and how it is read."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def check_folder(name: str, path: Path) -> None:
    """End as wrong usage where an option names a file that could not be written."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.UsageError(
            f"{name}: the folder {str(path.parent)!r} must exist and be writable"
        )


def check(
    *,
    texts: Sequence[Path],
    text_field: str | None,
    formats: Sequence[str],
    window: int | None,
    stride: int | None,
    by_position: bool,
    plot: Path | None,
    separator: str | None,
    document_start: str | None,
    quantize: str | None,
    **_: Any,
) -> None:
    """End as wrong usage where options do not go together, before a model is loaded."""
    if stride is not None and (window is None or stride > window):
        given = "there is none" if window is None else f"that has {window} tokens"
        raise click.UsageError(f"--stride must be at most a --window, got {stride}; {given}")
    not_with = {
        "--window": window,
        "--by-position": by_position or None,
        "--plot": plot,
    }
    for name, value in not_with.items():
        if formats and value is not None:
            raise click.UsageError(COMPARE_ALONE.format(name))
    if formats and quantize is not None:
        raise click.UsageError(
            "--compare is beside the model as it is, so --quantize must not be given with it; "
            f"--compare {quantize} is"
        )
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise click.UsageError(f"--plot must end with .png or .svg, got {str(plot)!r}")
    from receptance.data import holds_records

    kinds = {holds_records(path) for path in texts}
    plain = ("file of plain text", False)
    for name, value, (kind, is_records) in (
        ("--separator", separator, plain),
        ("--document-start", document_start, plain),
        ("--text-field", text_field, ("file of records (.jsonl, .parquet, .arrow)", True)),
    ):
        if value is not None and is_records not in kinds:
            raise click.UsageError(f"{name} must be given with a {kind}, but no --text is one")
    _boundaries(separator, document_start)


def measure_text(
    lm: "LanguageModel", model: Path, adapter: Path | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a text costs: the arguments of `Result` for it, its settings among them.

    Args:
        lm: The model.
        model: Where it is, to be loaded in other formats.
        adapter: What was added to it.
        options: Of `text_options`.
    """
    from receptance.evaluation import default_stride, read_documents, start_entry

    boundaries = _boundaries(options["separator"], options["document_start"])
    documents = read_documents(
        options["texts"],
        lm.tokenizer,
        options["max_tokens"],
        boundaries=boundaries,
        text_field=options["text_field"],
    )
    window, stride = options["window"], options["stride"]
    settings: dict[str, Any] = {"reading": "carried" if window is None else "windows"}
    if window is not None:
        settings |= {"window": window, "stride": stride or default_stride(window)}
    is_compared = bool(options["formats"])
    settings["start"] = "zero" if is_compared else start_entry(lm)
    for name in ("max_tokens", "separator", "document_start", "text_field"):
        if options[name] is not None:
            settings[name] = options[name]
    settings |= {"chunk": CHUNK_TOKENS, "batch_size": BATCH_SIZE}
    options = {**options, **settings}
    if is_compared:
        entries = _compared(lm, documents, model, adapter, options)
    else:
        entries = _measured(lm, documents, options)
    texts = [str(path) for path in options["texts"]]
    return {"settings": settings, "texts": texts, "text_sha256": documents.sha256, **entries}


def _boundaries(separator: str | None, document_start: str | None) -> "Boundaries":
    from receptance.data import parse_boundaries

    if separator is not None:
        separator = separator.replace(r"\n", "\n").replace(r"\t", "\t")
    try:
        return parse_boundaries(separator, document_start)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _measured(
    lm: "LanguageModel", documents: "Sequence[Document]", options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of one model."""
    from receptance.evaluation import measure, position_entries, text_entries

    measurement = measure(
        lm.model,
        documents,
        lm.tokenizer,
        window=options["window"],
        stride=options["stride"],
        start=lm.start_state(None),
        batch_size=BATCH_SIZE,
        chunk=CHUNK_TOKENS,
    )
    _check_finite(float(measurement.blocks.nats.sum()))
    entries = text_entries(measurement.blocks, len(documents))
    if options["by_position"] or options["plot"] is not None:
        entries["by_position"] = position_entries(measurement.by_position())
    return entries


def _compared(
    lm: "LanguageModel",
    documents: "Sequence[Document]",
    model: Path,
    adapter: Path | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the figures of a model, and how far it is from itself in other formats."""
    from receptance.evaluation import FormatFigure, compare, text_entries
    from receptance.inference import load

    # Where the model itself is: what is compared must be on one device.
    same = {
        "tokenizer": lm.tokenizer,
        "adapter": adapter,
        "device": str(lm.model.emb.weight.device),
    }
    variants = {
        name: load(model, **same, **load_options(name)).model for name in options["formats"]
    }
    comparison = compare(
        lm.model,
        variants,
        documents,
        lm.tokenizer,
        batch_size=BATCH_SIZE,
        chunk=CHUNK_TOKENS,
    )
    _check_finite(float(comparison.full.nats.sum()))
    for name, distance in comparison.distances.items():
        for estimate in distance:
            _check_finite(estimate.value, f"in {name} ")
    formats = {
        name: {figure: FormatFigure(**it._asdict()) for figure, it in each._asdict().items()}
        for name, each in comparison.distances.items()
    }
    return {**text_entries(comparison.full, len(documents)), "formats": formats}


def _check_finite(number: float, form: str = "") -> None:
    """End with an error where a model gives no numbers."""
    if not math.isfinite(number):
        message = f"the probabilities of the text must be finite, but {form}they are not: did "
        raise click.ClickException(message + "the model diverge in its training?")
