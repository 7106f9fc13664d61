"""What an evaluation found, as lines, tables and a chart for people."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from receptance.cli.terminal import printable, stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from receptance.evaluation import PositionEntry, Result
    from receptance.plotting import Chart

Figures = Mapping[str, Mapping[str, float | None]]
"""Of one format: each figure with its `value`, `low` and `high`."""
FIRST_X = 0.9
"""Where the axis of places begins, so that the dot of the first one is whole."""


def show(result: "Result") -> None:
    """Write a result of a text to stdout; to stderr whether it is too short for intervals."""
    click.echo(_lines(result))
    console = stdout_console()
    if result.by_position is not None:
        console.print(_position_table(result.by_position))
    if result.formats is not None:
        console.print(_format_table(result))
    ends = [each.low for each in (result.intervals or {}).values()]
    ends += [it["low"] for each in (result.formats or {}).values() for it in each.values()]
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


def number(value: float, pattern: str) -> str:
    """Return a figure by a pattern such as "{:,.3f}"; a very large one by its power of ten."""
    return pattern.format(value) if value < 1e9 else f"{value:.3e}"


def _lines(result: "Result") -> str:
    """Return the figures of the text."""
    rows: list[tuple[str, str]] = []
    for name, pattern in (
        ("bits_per_byte", "{:.4f}"),
        ("bits_per_token", "{:.4f}"),
        ("perplexity", "{:,.3f}"),
        ("word_perplexity", "{:,.3f}"),
    ):
        value = getattr(result, name)
        shown = number(math.inf if value is None else value, pattern)
        ends = (result.intervals or {}).get(name)
        if ends is not None and ends.low is not None and ends.high is not None:
            shown += f"  [{number(ends.low, pattern)}, {number(ends.high, pattern)}]"
        rows.append((name.replace("_", " "), shown))
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
    return "\n".join(f"{name:<16} {shown}" for name, shown in rows)


def _position_table(bins: "Sequence[PositionEntry]") -> "Table":
    """Return the loss by the place in a document."""
    from rich.table import Table

    table = Table(title="\nloss by the place in the document", title_justify="left")
    for title in ("places", "tokens", "nats a token", "95 % interval"):
        table.add_column(title, justify="right")
    for each in bins:
        places = f"{each.first:,}" if each.first == each.last else f"{each.first:,} - {each.last:,}"
        has_ends = each.low is not None and each.high is not None
        ends = f"{each.low:.4f}, {each.high:.4f}" if has_ends else ""
        table.add_row(places, f"{each.tokens:,}", f"{each.nats:.4f}", ends)
    return table


def _format_table(result: "Result") -> "Table":
    """Return how far each format is from the full model."""
    from rich.table import Table

    table = Table(
        title=f"\n{printable(result.model.path)}, beside the full model; [95 % interval]",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("format")
    for title in ("bits per byte", "difference", "KL, nats a token", "same likeliest token"):
        table.add_column(title, justify="right")
    table.add_row("full", f"{result.bits_per_byte:.4f}", "", "", "")
    for format_name, figures in (result.formats or {}).items():
        table.add_row(
            format_name,
            _with_interval(figures, "bits_per_byte", "{:.4f}"),
            _with_interval(figures, "difference_percent", "{:+.3f} %"),
            _with_interval(figures, "kl_nats", "{:.2e}"),
            _with_interval(figures, "top_1_agreement", "{:.2%}"),
        )
    return table


def _with_interval(figures: Figures, name: str, pattern: str) -> str:
    """Return a figure and below it its interval; the figure alone where there is none."""
    value, low, high = (figures[name][key] for key in ("value", "low", "high"))
    shown = pattern.format(value)
    if low is None or high is None:
        return shown
    ends = ", ".join(pattern.removesuffix(" %").format(end) for end in (low, high))
    return f"{shown}\n\\[{ends}]"
