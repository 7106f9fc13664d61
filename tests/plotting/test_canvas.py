"""Dots become characters, and lines lie over what is behind them."""

import pytest

from receptance.plotting.canvas import ASCII, BRAILLE, Canvas


def plain(canvas: Canvas) -> list[str]:
    return [row.plain for row in canvas.rows()]


@pytest.mark.parametrize(
    ("x", "y", "character"),
    [(0, 0, "⠁"), (0, 1, "⠂"), (0, 2, "⠄"), (0, 3, "⡀"), (1, 0, "⠈"), (1, 2, "⠠"), (1, 3, "⢀")],
)
def test_each_dot_of_a_braille_character_has_its_place(x, y, character):
    canvas = Canvas(2, 1)
    canvas.dot(x, y, "", 1)

    assert plain(canvas) == [character + " "]


def test_dots_of_one_layer_come_together():
    canvas = Canvas(1, 1)
    for x in range(2):
        for y in range(4):
            canvas.dot(x, y, "", 1)

    assert plain(canvas) == ["⣿"]


def test_without_braille_there_are_two_dots_a_character():
    canvas = Canvas(4, 1, ASCII)
    for x, y in ((1, 0), (2, 1), (3, 0), (3, 1)):
        canvas.dot(x, y, "", 1)

    assert (canvas.width, canvas.height) == (4, 2)
    assert plain(canvas) == [" '.:"]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_several_layers_the_highest_is_seen(order):
    canvas = Canvas(1, 1)
    for layer in order:
        canvas.dot(0, layer, f"color({layer})", layer)

    (row,) = canvas.rows()
    assert row.plain == "⠄"
    assert [str(span.style) for span in row.spans] == ["color(2)"]


def test_a_mark_stands_over_all_dots():
    canvas = Canvas(1, 1)
    canvas.mark(1, 3, "×", "red")
    canvas.dot(0, 0, "", 50)

    assert plain(canvas) == ["×"]


def test_a_line_has_both_ends_and_no_hole():
    canvas = Canvas(8, 4)
    canvas.line((0, 15), (15, 0), "", 1)

    assert plain(canvas) == ["      ⡠⠊", "    ⡠⠊  ", "  ⡠⠊    ", "⡠⠊      "]


def test_what_is_outside_is_left_out():
    canvas = Canvas(2, 1)
    canvas.line((-5, 0), (50, 0), "", 1)
    canvas.dot(0, 4, "", 1)
    canvas.dot(0, -1, "", 1)

    assert plain(canvas) == ["⠉⠉"]


@pytest.mark.parametrize("glyphs", [BRAILLE, ASCII])
def test_there_is_a_character_for_every_set_of_dots(glyphs):
    assert len(glyphs.characters) == len(set(glyphs.characters)) == 2 ** len(glyphs.bits)
    assert sorted(glyphs.bits) == [2**index for index in range(len(glyphs.bits))]
    assert len(glyphs.bits) == glyphs.n_columns * glyphs.n_rows
