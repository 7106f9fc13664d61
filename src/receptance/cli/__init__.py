"""The `receptance` command: one file per verb, imported when it is used."""

import difflib
import importlib
import io
import os
import signal
import sys
from types import FrameType

import click

from receptance.errors import ReceptanceError

__all__ = ["main"]

# Every verb and what it does; the verb's own file has the rest.
VERBS = {
    "demo": "Train a small model on Python's standard library and let it write.",
    "train": "Train a model from a TOML file, or go on with its run.",
    "generate": "Write on from a prompt.",
    "chat": "Talk to a model in the terminal.",
    "serve": "Serve a model by OpenAI's API, with a page to chat.",
    "convert": "Write a model in another format or precision, or in 4 or 8 bits.",
    "inspect": "Show what a model is, or where two of them differ.",
    "eval": "Measure how well a model predicts text, quantized or not.",
    "compare": "Set the results of evaluations beside each other.",
    "bench": "Measure decoding and prefill beside what the machine can do.",
    "plot": "Draw the curves of runs, as a picture or in the terminal.",
    "data": "Prepare and inspect training data.",
    "doctor": "Show what this machine can run, and why not the rest.",
}


class Verbs(click.Group):
    """A group that imports a verb only when it is run, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of `VERBS`."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb's command, importing its file."""
        del ctx
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"receptance.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command to run; an unknown verb names the nearest known one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the verbs are {', '.join(VERBS)}"
            raise click.UsageError(f"no such verb {args[0]!r}; {hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs without importing them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted and not ctx.resilient_parsing:
        from receptance.version import package_version

        click.echo(f"{ctx.find_root().info_name} {package_version()}")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def root() -> None:
    """RWKV language models: trained, run and measured by one package."""


def main() -> None:
    """Run the command line and exit: 0 done, 2 wrong usage, otherwise as `errors.py` says."""
    # What is being written when the end is asked for is removed on the way out.
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that has no "…" shows it as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        code = root.main(prog_name="receptance", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    except BrokenPipeError:
        # The reader went away, as `head` does. Nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except ReceptanceError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except OSError as error:
        names_file = error.filename is not None and error.strerror is not None
        reason = f"{str(error.filename)!r}: {error.strerror}" if names_file else error.strerror
        click.echo(f"error: {reason or error}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as the shell expects of a program that a signal ended."""
    del frame
    sys.exit(128 + number)
