"""`receptance serve`: a model behind OpenAI's API, with a chat page."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from receptance.chat_format import CHAT_FORMATS
from receptance.cli.model_options import load_model, loading_options, model_argument
from receptance.cli.serve_options import settings_of, settings_options
from receptance.errors import ConfigError
from receptance.version import package_version


@click.command()
@model_argument()
@settings_options
@click.option(
    "--api-key-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only who has a key may call: one a line, KEY or NAME:KEY.  [default: those of the "
    "variable RECEPTANCE_API_KEYS, if it is set]",
)
@click.option("--model-name", metavar="NAME", help="Of the model in requests.  [default: its own]")
@click.option(
    "--chat-template",
    type=click.Choice([*CHAT_FORMATS, "plain"]),
    help="How conversations are written.  [default: the model's own, or else world]",
)
@click.option("--quiet", is_flag=True, help="Write no line for each request.")
@loading_options
def command(
    model: Path,
    api_key_file: Path | None,
    model_name: str | None,
    chat_template: str | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Serve MODEL by OpenAI's API, and a page to chat with it.

    Any client of OpenAI's API can use it: its base URL is the address, and /v1. SIGTERM lets the
    requests that run come to their end; a second signal does not.
    """
    settings = settings_of(options)
    _require_extra()
    from receptance.serving.access import KeyRing
    from receptance.serving.app import check_model_name, create_app
    from receptance.serving.server import bind, check_exposure, serve

    _log_to_stderr(quiet=quiet)
    check_model_name(model_name)
    keys = KeyRing.find(api_key_file, os.environ)
    check_exposure(settings, keys)
    # An address that is taken is told at once, and not after minutes of reading weights.
    with bind(settings) as listener:
        lm = load_model(model, **options)
        app = create_app(
            lm, settings, keys=keys, model_name=model_name, chat_template=chat_template
        )
        return serve(app, app.room, settings, listener=listener, on_ready=_tell_ready)


def _require_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"a server needs the package {error.name!r}, which is not installed; install it with "
            "`pip install 'receptance[serve]'`"
        ) from error


def _log_to_stderr(*, quiet: bool) -> None:
    """Write the log to stderr, a line for each request among it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in {
        "receptance": logging.INFO,
        "receptance.serving.requests": logging.WARNING if quiet else logging.INFO,
        "uvicorn": logging.WARNING,
    }.items():
        logging.getLogger(name).setLevel(level)
    for name in ("receptance", "uvicorn"):
        logging.getLogger(name).handlers = [handler]


def _tell_ready(address: str) -> None:
    click.echo(f"receptance {package_version()} serves at {address}", err=True)
