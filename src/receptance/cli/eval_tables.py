"""What an evaluation found, as lines, tables and a chart for people."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from receptance.cli.terminal import printable, stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from receptance.evaluation import PositionEntry, Result
    from receptance.plotting import Chart

FIRST_X = 0.9
"""Where the axis of places begins, so that the dot of the first one is whole."""


def show(result: "Result") -> None:
    """Write a result to stdout; to stderr whether its text is too short for intervals."""
    if result.tokens is not None:
        click.echo(_lines(result))
    console = stdout_console()
    if result.tasks is not None:
        console.print(_task_table(result))
    if result.by_position is not None:
        console.print(_position_table(result.by_position))
    if result.formats is not None:
        console.print(_format_table(result))
    ends = [each.low for each in (result.intervals or {}).values()]
    ends += [it.low for each in (result.formats or {}).values() for it in each.values()]
    if ends and all(end is None for end in ends):
        click.echo("the text is too short for 95 % intervals", err=True)


def position_chart(result: "Result") -> "Chart":
    """Return the loss over the place in a document; intervals are thin lines."""
    from receptance.plotting import Chart, Curve

    bins = result.by_position or []
    label = printable(result.model.path)
    # A bin stands in its middle, as factors go.
    x = [math.sqrt(each.first * each.last) for each in bins]
    curves = [Curve(label=label, x=x, y=[each.nats for each in bins], style="dots")]
    sure = [(at, each) for at, each in zip(x, bins, strict=True) if each.low is not None]
    for end in ("low", "high"):
        y = [getattr(each, end) for _, each in sure]
        curves.append(Curve(label=label, x=[at for at, _ in sure], y=y, style="thin"))
    return Chart(
        title="loss, nats a token, and its 95 % interval",
        x_label="place in the document, tokens",
        x_range=(FIRST_X, float(max(2, bins[-1].last))),
        curves=curves,
        is_log_x=True,
    )


def shown(
    value: float, low: float | None, high: float | None, pattern: str, between: str = " "
) -> str:
    """Return a figure and its interval, "value [low, high]"; alone where it has none.

    Args:
        value: The figure.
        low: The ends of its interval, if it has one.
        high: See `low`.
        pattern: Of each number, such as "{:,.3f}"; very large ones are told by powers of ten.
        between: What stands between the figure and its interval.
    """
    value_text, *ends = (
        pattern.format(each) if each < 1e9 else f"{each:.3e}"
        for each in (value, low, high)
        if each is not None
    )
    return f"{value_text}{between}[{', '.join(ends)}]" if len(ends) == 2 else value_text


def _lines(result: "Result") -> str:
    """Return the figures of the text."""
    from receptance.evaluation import FIGURES

    rows: list[tuple[str, str]] = []
    for name, pattern in FIGURES.items():
        value, ends = getattr(result, name), (result.intervals or {}).get(name)
        low, high = (None, None) if ends is None else (ends.low, ends.high)
        text = shown(math.inf if value is None else value, low, high, pattern)
        rows.append((name.replace("_", " "), text))
    for name in ("tokens", "bytes", "words", "documents"):
        rows.append((name, f"{getattr(result, name):,}"))
    if result.settings["reading"] == "windows":
        rows.append(
            (
                "read",
                "in windows of {window} tokens, {stride} apart, each from the start state".format(
                    **result.settings
                ),
            )
        )
    return "\n".join(f"{name:<16} {text}" for name, text in rows)


def _position_table(bins: "Sequence[PositionEntry]") -> "Table":
    """Return the loss by the place in a document."""
    from rich.table import Table

    table = Table(title="\nloss by the place in the document", title_justify="left")
    for title in ("places", "tokens", "nats a token [95 % interval]"):
        table.add_column(title, justify="right")
    for each in bins:
        places = f"{each.first:,}" if each.first == each.last else f"{each.first:,} - {each.last:,}"
        table.add_row(places, f"{each.tokens:,}", shown(each.nats, each.low, each.high, "{:.4f}"))
    return table


def _format_table(result: "Result") -> "Table":
    """Return how far each format is from the full model."""
    from rich.table import Table

    from receptance.evaluation import FIGURES

    name = f"{printable(result.model.path)}, beside itself in {result.model.matrices}"
    table = Table(
        title=f"\n{name}; [95 % interval]",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("format")
    for title in ("bits per byte", "difference, %", "KL, nats a token", "same likeliest token"):
        table.add_column(title, justify="right")
    full, *_ = FIGURES.values()
    table.add_row(result.model.matrices, full.format(result.bits_per_byte), "", "", "")
    patterns = {
        "bits_per_byte": FIGURES["bits_per_byte"], "difference_percent": "{:+.3f}",
        "kl_nats": "{:.2e}", "top_1_agreement": "{:.2%}",
    }  # fmt: skip
    for name, figures in (result.formats or {}).items():
        cells = [
            shown(it.value, it.low, it.high, pattern, between="\n")
            for it, pattern in ((figures[each], pattern) for each, pattern in patterns.items())
        ]
        table.add_row(name, *cells)
    return table


def _task_table(result: "Result") -> "Table":
    """Return the figures of tasks, each with its standard error."""
    from rich.table import Table

    table = Table()
    for title in ("task", "shots", "items", "figure", "value", "standard error"):
        table.add_column(title, justify="left" if title in ("task", "figure") else "right")
    for task, figures in (result.tasks or {}).items():
        about = result.settings["tasks"]["of"].get(task, {})
        cells = [printable(task), *(str(about.get(key, "")) for key in ("shots", "items"))]
        for name, figure in figures.items():
            error = (
                "" if figure.stderr is None else "± " + shown(figure.stderr, None, None, "{:,.4f}")
            )
            value = math.inf if figure.value is None else figure.value
            table.add_row(*cells, printable(name), shown(value, None, None, "{:,.4f}"), error)
            cells = ["", "", ""]
    return table
