"""`receptance compare`: the results of several evaluations beside each other."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.cli.eval_tables import shown
from receptance.cli.terminal import printable

if TYPE_CHECKING:
    from receptance.evaluation import Cell, Result, SideBySide


@click.command()
@click.argument(
    "files",
    metavar="RESULT.json...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """Set results that `receptance eval --output` wrote beside each other, as a Markdown table.

    Each is compared with the first: where both are of the same text, the difference of their bits
    per byte has a 95 % interval of pairs, block by block of the text. What must not be compared is
    said below the table.
    """
    from receptance.evaluation import read_result, side_by_side

    results = [(str(path), read_result(path)) for path in files]
    found = side_by_side(results)
    if as_json:
        click.echo(json.dumps(_document(results, found), allow_nan=False))
        return
    click.echo(_table(results, found))
    for note in found.notes:
        click.echo(f"\n{printable(note)}")


def _document(results: "list[tuple[str, Result]]", found: "SideBySide") -> dict[str, Any]:
    """Return what `--json` writes: of each figure a list, in the order of `results`."""
    models = [{"file": name, "model": each.model.path} for name, each in results]
    figures = {
        name: [None if cell is None else _entries(cell) for cell in row]
        for name, row in found.figures.items()
    }
    differences = [
        None if each is None else {name: value._asdict() for name, value in each._asdict().items()}
        for each in found.differences
    ]
    return {
        "results": models, "figures": figures, "differences": differences, "notes": found.notes,
    }  # fmt: skip


def _entries(cell: "Cell") -> dict[str, float | int | None]:
    """Return a figure with what is known of its error."""
    entries = {name: value for name, value in cell._asdict().items() if value is not None}
    return {**entries, "value": cell.value if math.isfinite(cell.value) else None}


def _table(results: "list[tuple[str, Result]]", found: "SideBySide") -> str:
    """Return a table that is Markdown: a row a figure, a column a result."""
    rows = [
        ["figure", *found.names],
        ["model", *(each.model.path for _, each in results)],
        ["matrices", *(each.model.matrices for _, each in results)],
        ["fingerprint", *(each.model.fingerprint[:12] for _, each in results)],
    ]
    for name, cells in found.figures.items():
        rows.append([name.replace("_", " "), *(_cell(name, cell) for cell in cells)])
    if any(each is not None for each in found.differences):
        for title, name, pattern in (
            ("difference, bits per byte", "bits_per_byte", "{:+.4f}"),
            ("difference, %", "percent", "{:+.3f}"),
        ):
            estimates = [each and getattr(each, name) for each in found.differences]
            rows.append([title, *(shown(*it, pattern=pattern) if it else "" for it in estimates)])
    rows = [[_escaped(cell) for cell in row] for row in rows]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in widths)]
    lines = [
        [row[0].ljust(first), *(cell.rjust(n) for cell, n in zip(row[1:], widths, strict=True))]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(name: str, cell: "Cell | None") -> str:
    """Return a figure with its interval or its standard error."""
    from receptance.evaluation import FIGURES

    if cell is None:
        return ""
    value, low, high, stderr = cell
    if isinstance(value, int):
        return f"{value:,}"
    pattern = FIGURES.get(name, "{:,.3f}" if value >= 10 else "{:.4f}")
    text = shown(value, low, high, pattern)
    return text if stderr is None else f"{text} ± {stderr:.4f}"


def _escaped(text: str) -> str:
    """Return a text that stays in its cell of a Markdown table."""
    return printable(text).replace("\n", " ").replace("|", r"\|")
