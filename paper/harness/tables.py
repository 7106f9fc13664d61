"""Tables of the page."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; the first column to the left, the others to the right."""
    lines = [_line(head), f"|---|{'---:|' * (len(head) - 1)}", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    """Return a row; a bar within a cell would divide it."""
    return f"| {' | '.join(str(each).replace('|', chr(92) + '|') for each in cells)} |"
