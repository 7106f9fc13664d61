"""What may be written to a terminal: a text, and nothing that acts."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 100
"""Characters in a line where the output is no terminal."""


def printable(text: str) -> str:
    """Return the text with its control characters, but for line ends and tabs, as escapes.

    A model may write any of them, and one that begins with ESC moves the cursor or worse.
    """
    return "".join(
        character if character.isprintable() or character in "\n\t" else repr(character)[1:-1]
        for character in text
    )


def shown(text: str) -> str:
    """Return what to write to stdout for a text: the text, or in a terminal what is printable."""
    return printable(text) if stdout_is_terminal() else text


def stdin_is_terminal() -> bool:
    """Whether somebody types; there is no stdin where it was closed before the start."""
    return sys.stdin is not None and sys.stdin.isatty()


def stdout_is_terminal() -> bool:
    """Whether somebody reads along."""
    return sys.stdout is not None and sys.stdout.isatty()


def stdout_console() -> "Console":
    """Return what draws tables on stdout, as wide as the terminal or as `PIPE_WIDTH`."""
    from rich.console import Console

    return Console(highlight=False, width=None if stdout_is_terminal() else PIPE_WIDTH)
