"""The options of `receptance serve` that are settings of the server."""

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from receptance.serving.settings import Settings

_TOLD: dict[str, tuple[str, str]] = {
    "host": ("ADDRESS", "Listen there; an address that others can reach needs --api-key-file."),
    "port": ("N", "0 takes a free one."),
    "unix_socket": ("FILE", "Listen on a socket file instead."),
    "allowed_hosts": (
        "NAME",
        "A name by which the server is reached, or *.NAME; may be given again.",
    ),
    "cors_origins": ("ORIGIN", "A web page's origin that may call; may be given again."),
    "any_model_name": ("", "Requests may name any model, and get this one."),
    "max_sequences": ("N", "Texts that are read or written at once."),
    "max_waiting": ("N", "Texts that wait for their turn; the next are told to come again (429)."),
    "max_prompt_tokens": ("N", "Tokens of a prompt, at most."),
    "max_tokens": ("N", "Tokens that a request may ask for."),
    "default_max_tokens": ("N", "Tokens that are written when a request does not say."),
    "request_seconds": ("SECONDS", "From a request's arrival to its end, at most."),
    "state_cache_bytes": ("N", "Memory for the states after prompts; 0 keeps none."),
    "state_folder": ("DIR", "Keep the states of /v1/states there, for the next start too."),
    "drain_seconds": ("SECONDS", "On SIGTERM: go on for so long, unready."),
    "shutdown_seconds": ("SECONDS", "Then: give running requests so long to end."),
}

_KINDS = {"integer": "a whole number", "float": "a number", "boolean": "true or false"}
_SINGULAR = {"allowed_hosts": "allowed-host", "cors_origins": "cors-origin"}
_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each setting that is often set, and one for all others."""
    function = click.option(
        "--set",
        "others",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other limit of the server, such as max_body_bytes=1000000; may be given again.",
    )(function)
    for name, (metavar, what) in reversed(_TOLD.items()):
        function = _option(name, metavar, what)(function)
    return function


def settings_of(options: dict[str, Any]) -> Settings:
    """Return the settings of the options that were given; take those options out of `options`."""
    given = {name: options.pop(name) for name in _TOLD}
    found = {
        name: value
        for name, value in given.items()
        if value is not None and value is not False and value != ()
    }
    for each in options.pop("others"):
        name, value = _setting(each)
        if name in found:
            raise click.UsageError(f"`{name}` must be given once, but is there again")
        found[name] = value
    try:
        return Settings(**found)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _option(name: str, metavar: str, what: str) -> Callable[[Any], Any]:
    spelled = f"--{_SINGULAR.get(name, name.replace('_', '-'))}"
    default = _FIELDS[name].default
    if isinstance(default, bool):
        return click.option(spelled, name, is_flag=True, help=what)
    if isinstance(default, tuple):
        return click.option(spelled, name, multiple=True, metavar=metavar, help=what)
    shown = "" if default is None else f"  [default: {default}]"
    return click.option(
        spelled, name, type=_type(name), default=None, metavar=metavar, help=what + shown
    )


def _type(name: str) -> Any:
    """Return what reads a setting from text."""
    if name in ("unix_socket", "state_folder", "state_cache_folder"):
        return click.Path(path_type=Path)
    return {int: click.INT, float: click.FLOAT}.get(type(_FIELDS[name].default), click.STRING)


def _setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of KEY=VALUE."""
    name, _, value = text.partition("=")
    name = name.strip().replace("-", "_")
    others = sorted(_FIELDS.keys() - _TOLD.keys())
    if name not in others:
        raise click.UsageError(
            f"--set must name one of the other settings, got {name!r}{_hint(name, others)}"
        )
    kind = click.BOOL if isinstance(_FIELDS[name].default, bool) else _type(name)
    try:
        return name, kind.convert(value, None, None)
    except click.BadParameter as error:
        wanted = _KINDS[kind.name]
        raise click.UsageError(f"`{name}` must be {wanted}, got {value!r}") from error


def _hint(name: str, others: list[str]) -> str:
    """Return what may have been meant by a name that `--set` does not know."""
    near = [name] if name in _TOLD else difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)
    if not near:
        return f": {', '.join(others)}"
    if near[0] in _TOLD:
        return f"; there is --{_SINGULAR.get(near[0], near[0].replace('_', '-'))}"
    return f"; did you mean {near[0]!r}?"
