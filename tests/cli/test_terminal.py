"""A text in a terminal is seen and does nothing; in a pipe it is itself."""

import io
import sys

import pytest

from receptance.cli.terminal import printable, shown, stdin_is_terminal


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def pipe() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO())


def terminal() -> Terminal:
    return Terminal(io.BytesIO())


def test_control_characters_are_escaped_and_text_is_not():
    assert printable("a\x1b[2J\x07\x00\r é漢 🙂\n\tb") == "a\\x1b[2J\\x07\\x00\\r é漢 🙂\n\tb"


@pytest.mark.parametrize(
    ("stdout", "text"),
    [(terminal(), "\\x1b"), (pipe(), "\x1b"), (None, "\x1b")],
)
def test_only_a_terminal_gets_what_is_printable(monkeypatch, stdout, text):
    monkeypatch.setattr(sys, "stdout", stdout)

    assert shown("\x1b") == text


@pytest.mark.parametrize(
    ("stdin", "expected"), [(terminal(), True), (pipe(), False), (None, False)]
)
def test_nobody_types_where_there_is_no_terminal(monkeypatch, stdin, expected):
    monkeypatch.setattr(sys, "stdin", stdin)

    assert stdin_is_terminal() is expected
