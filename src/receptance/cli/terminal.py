"""What may be written to a terminal: a text, and nothing that acts."""

import sys


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
