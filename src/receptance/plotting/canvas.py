"""A grid of small dots that is written as characters."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.text import Text


class Glyphs(NamedTuple):
    """How the dots of one character are arranged and written."""

    n_columns: int
    n_rows: int
    bits: tuple[int, ...]
    """Of each dot, row by row."""
    characters: str
    """By the sum of the bits of the dots that are set."""
    cross: str
    disc: str
    axes: str
    """The y-axis without and with a tick, the corner, the x-axis without and with a tick."""


BRAILLE_CHARACTERS = " " + "".join(map(chr, range(0x2801, 0x2900)))
BRAILLE = Glyphs(2, 4, (1, 8, 2, 16, 4, 32, 64, 128), BRAILLE_CHARACTERS, "×", "●", "│┤└─┬")
ASCII = Glyphs(1, 2, (1, 2), " '.:", "x", "o", "|++-+")
"""For a terminal that cannot show braille."""


class Cell(NamedTuple):
    """One character's dots, or a character that stands for itself."""

    layer: int
    style: str
    bits: int = 0
    character: str = ""


@dataclass
class Canvas:
    """Characters of several dots each, on layers: in one character only the highest is seen.

    A character has one colour, so the dots of a line would else be lost among those behind it.
    """

    n_columns: int
    """Characters in a line."""
    n_rows: int
    glyphs: Glyphs = BRAILLE
    _cells: dict[tuple[int, int], Cell] = field(default_factory=dict[tuple[int, int], Cell])

    @property
    def width(self) -> int:
        """Dots from left to right."""
        return self.n_columns * self.glyphs.n_columns

    @property
    def height(self) -> int:
        """Dots from top to bottom."""
        return self.n_rows * self.glyphs.n_rows

    def dot(self, x: int, y: int, style: str, layer: int) -> None:
        """Set a dot, counted from the upper left; none outside of the canvas."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return
        column, dx = divmod(x, self.glyphs.n_columns)
        row, dy = divmod(y, self.glyphs.n_rows)
        before = self._cells.get((column, row), Cell(layer, style))
        if before.layer > layer:
            return
        bits = before.bits if before.layer == layer else 0
        bit = self.glyphs.bits[dy * self.glyphs.n_columns + dx]
        self._cells[column, row] = Cell(layer, style, bits | bit)

    def mark(self, x: int, y: int, character: str, style: str) -> None:
        """Put a character over the dots at a place within the canvas."""
        place = x // self.glyphs.n_columns, y // self.glyphs.n_rows
        self._cells[place] = Cell(99, style, character=character)

    def line(self, begin: tuple[int, int], end: tuple[int, int], style: str, layer: int) -> None:
        """Set the dots of a straight line; a part outside of the canvas is left out."""
        for x, y in _straight(begin, end):
            self.dot(x, y, style, layer)

    def rows(self) -> list[Text]:
        """Return the lines of characters, from the top on, all of one width."""
        lines = []
        for row in range(self.n_rows):
            line = Text()
            for column in range(self.n_columns):
                cell = self._cells.get((column, row), Cell(0, ""))
                character = cell.character or self.glyphs.characters[cell.bits]
                line.append(character, cell.style or None)
            lines.append(line)
        return lines


def _straight(begin: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the dots from `begin` to `end`, both included."""
    (x0, y0), (x1, y1) = begin, end
    n_steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    for step in range(n_steps + 1):
        yield round(x0 + (x1 - x0) * step / n_steps), round(y0 + (y1 - y0) * step / n_steps)
