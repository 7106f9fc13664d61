"""What is given reaches the settings as it is, and nothing else does."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from receptance.cli.serve_options import settings_of, settings_options
from receptance.serving.settings import Settings


def run(*args: str) -> tuple[Result, Settings | None]:
    """Run a command that has the options and notes its settings."""
    noted: list[Settings] = []

    @click.command()
    @settings_options
    def command(**options: Any) -> None:
        noted.append(settings_of(options))
        assert options == {}

    return CliRunner().invoke(command, list(args)), noted[0] if noted else None


def test_without_options_the_settings_are_the_defaults():
    assert run()[1] == Settings()


def test_every_option_reaches_its_setting():
    result, settings = run(
        *("--host", "::1", "--port", "0", "--unix-socket", "a.sock", "--any-model-name"),
        *("--allowed-host", "a.example", "--allowed-host", "*.b.example"),
        *("--cors-origin", "https://c.example", "--max-sequences", "3", "--max-waiting", "0"),
        *("--max-prompt-tokens", "5", "--max-tokens", "6", "--default-max-tokens", "4"),
        *("--request-seconds", "7", "--state-cache-bytes", "0"),
        *("--drain-seconds", "1.5", "--shutdown-seconds", "0"),
    )
    assert result.exit_code == 0
    assert settings == Settings(
        host="::1",
        port=0,
        unix_socket=Path("a.sock"),
        any_model_name=True,
        allowed_hosts=("a.example", "*.b.example"),
        cors_origins=("https://c.example",),
        max_sequences=3,
        max_waiting=0,
        max_prompt_tokens=5,
        max_tokens=6,
        default_max_tokens=4,
        request_seconds=7.0,
        state_cache_bytes=0,
        drain_seconds=1.5,
        shutdown_seconds=0.0,
    )


def test_every_other_setting_can_be_set():
    result, settings = run(
        *("--set", "max_body_bytes=1000", "--set", "header-seconds=2"),
        *("--set", "strict_params=false", "--set", "state_cache_folder=a"),
    )
    assert result.exit_code == 0
    assert settings == Settings(
        max_body_bytes=1000, header_seconds=2.0, strict_params=False, state_cache_folder=Path("a")
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--set", "max_bodies=1"], "must name one of the other settings, got 'max_bodies': "),
        (["--set", "max_bodybytes=1"], "got 'max_bodybytes'; did you mean 'max_body_bytes'?"),
        (["--set", "max_sequence=1"], "got 'max_sequence'; there is --max-sequences"),
        (["--set", "port=1"], "got 'port'; there is --port"),
        (["--set", "allowed_hosts=a"], "there is --allowed-host"),
        (["--set", "state_folder=a"], "there is --state-folder"),
        (["--set", "max_body_bytes"], "`max_body_bytes` must be a whole number, got ''"),
        (["--set", "body_seconds=soon"], "`body_seconds` must be a number, got 'soon'"),
        (
            ["--set", "strict_params=perhaps"],
            "`strict_params` must be true or false, got 'perhaps'",
        ),
        (["--set", "max_body_bytes=1", "--set", "max_body_bytes=2"], "must be given once"),
        (["--port", "70000"], "`port` must be at most 65535"),
        (["--max-sequences", "0"], "`max_sequences` must be at least 1"),
        (["--cors-origin", "foo"], "`cors_origins` must be origins such as https://"),
        (["--allowed-host", "a:80"], "`allowed_hosts` must be names such as a.example"),
        (["--request-seconds", "nan"], "`request_seconds` must be above 0"),
    ],
)
def test_a_wrong_setting_is_wrong_usage(args, words):
    result, settings = run(*args)
    assert (result.exit_code, settings) == (2, None)
    assert words in result.stderr


def test_the_help_tells_the_defaults():
    shown = " ".join(run("--help")[0].output.split())
    for name in ("port", "max_sequences", "shutdown_seconds"):
        default = {each.name: each.default for each in dataclasses.fields(Settings)}[name]
        assert f"--{name.replace('_', '-')} " in shown
        assert f"[default: {default}]" in shown
