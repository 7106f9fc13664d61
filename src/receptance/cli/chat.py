"""`receptance chat`: talk to a model in the terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receptance.chat_format import CHAT_FORMATS
from receptance.cli.model_options import (
    load_model,
    model_argument,
    model_options,
    sampling_params,
)
from receptance.cli.terminal import shown, stdin_is_terminal, stdout_is_terminal
from receptance.errors import ReceptanceError

if TYPE_CHECKING:
    from receptance.inference import Chat

_HELP = """\
/reset      forget everything that was said
/undo       take back the last turn and its answer
/retry      another answer to the last turn
/save FILE  save the memory of this conversation
/load FILE  go on from a memory that was saved
/help       this list
/exit       leave, as Ctrl-D does
A line that begins with a space is said as it is, without it."""


@click.command()
@model_argument()
@model_options
@click.option("--system", default="", metavar="TEXT", help="Instructions before the first turn.")
@click.option(
    "--chat-format",
    type=click.Choice(list(CHAT_FORMATS)),
    default=next(iter(CHAT_FORMATS)),
    show_default=True,
    help="How turns are written: of User and Assistant, Bob and Alice, Question and Answer.",
)
def command(model: Path, system: str, chat_format: str, **options: Any) -> None:
    """Talk to MODEL; /help lists what else it does.

    The model remembers by its state alone, so a conversation may go on for ever. Each line of
    stdin is a turn; the answers go to stdout.
    """
    from receptance.inference import Chat

    params = sampling_params(options)
    chat = Chat(
        load_model(model, **options), params, system=system, chat_format=CHAT_FORMATS[chat_format]
    )
    if stdin_is_terminal():
        click.echo("Talk to the model; /help lists the commands.", err=True)
    for line in lines():
        if line.strip() == "/exit":
            return
        # What goes wrong with one line is no reason to lose the conversation.
        try:
            _respond(chat, line)
        except (ReceptanceError, ValueError) as error:
            click.echo(f"error: {error}", err=True)


def lines() -> Iterator[str]:
    """Yield the lines of stdin; in a terminal, with a prompt and a history to edit."""
    if not (stdin_is_terminal() and stdout_is_terminal()):
        for line in sys.stdin.buffer if sys.stdin is not None else ():
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # its import gives `input` its editing
    with contextlib.suppress(EOFError):
        while True:
            try:
                line = input("> ")
            except KeyboardInterrupt:
                click.echo("\n(/exit or Ctrl-D leaves)", err=True)
                continue
            yield line


def _respond(chat: "Chat", line: str) -> None:
    """Do what a line asks for."""
    if not line.strip():
        return
    if not line.startswith("/"):
        _print_answer(chat.say(line))
        return
    name, _, argument = line.strip().partition(" ")
    if name == "/retry":
        _print_answer(chat.retry())
        return
    if name not in _COMMANDS:
        raise ValueError(f"there is no command {name!r}; /help lists them")
    click.echo(_COMMANDS[name](chat, argument.strip()), err=True)


def _print_answer(pieces: Iterator[str]) -> None:
    """Write an answer as it comes; Ctrl-C ends it, and its turn is forgotten."""
    try:
        for piece in pieces:
            click.echo(shown(piece), nl=False)
    except KeyboardInterrupt:
        click.echo("\n(interrupted: this turn is forgotten)", err=True)
    else:
        click.echo()


def _reset(chat: "Chat", _: str) -> str:
    chat.reset()
    return "(everything is forgotten)"


def _undo(chat: "Chat", _: str) -> str:
    return f"(taken back: {chat.undo()!r})"


def _save(chat: "Chat", path: str) -> str:
    try:
        chat.save(_file(path, "/save"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    return f"(saved to {path!r})"


def _load(chat: "Chat", path: str) -> str:
    chat.load(_file(path, "/load"))
    return f"(remembering {path!r})"


def _file(path: str, name: str) -> Path:
    if not path:
        raise ValueError(f"{name} must be followed by a file, such as {name} talk.safetensors")
    return Path(path)


_COMMANDS: dict[str, Callable[["Chat", str], str]] = {
    "/reset": _reset,
    "/undo": _undo,
    "/save": _save,
    "/load": _load,
    "/help": lambda _chat, _argument: _HELP,
}
