"""The guides about servers are followed word by word.

Their Python blocks and those of the shell are run in order, before a server of a small model at
another port; a `receptance serve` among them is read as this version reads it. Each `text` block
must be in what the block before it said.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from receptance.checkpoint import save_model
from receptance.cli import root, serve
from receptance.cli.serve_options import settings_of
from receptance.serving.access import KeyRing
from receptance.serving.app import create_app
from receptance.serving.settings import Settings
from tests.serving.live import live

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
KEY = "0123456789abcdef-of-anna"
CURL = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }\n'


class Reader:
    """Somebody who does what a guide says."""

    def __init__(self, place: Path, port: int) -> None:
        self.place = place
        self.port = port
        self.said = ""
        self.names: dict[str, object] = {"__name__": "__main__"}

    def follow(self, guide: str) -> int:
        """Run each block, and return how many there were; what fails fails the test."""
        text = (GUIDES / guide).read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        for language, block in blocks:
            if language:
                getattr(self, language)(block.replace("localhost:8000", f"localhost:{self.port}"))
        return len(blocks)

    def sh(self, text: str) -> None:
        """Run commands; those of `receptance` in this process, and a server is there already."""
        self.said = ""
        waiting: list[str] = []
        for line in text.splitlines():
            if line.startswith("receptance "):
                self._bash("\n".join(waiting))
                waiting.clear()
                self._receptance(shlex.split(line)[1:])
            elif not line.startswith("pip install "):
                waiting.append(line)
        self._bash("\n".join(waiting))

    def _receptance(self, args: list[str]) -> None:
        if args[0] == "serve":
            params = serve.command.make_context("serve", args[1:]).params
            names = [*vars(Settings()), "others"]
            assert settings_of({name: params[name] for name in names if name in params})
            return
        result = CliRunner().invoke(root, args)
        self.said += result.output
        assert result.exit_code == 0, result.output

    def _bash(self, command: str) -> None:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", CURL + command],
            cwd=self.place,
            env=os.environ | {"KEY": KEY},
            capture_output=True,
            check=False,
        )
        self.said += (run.stdout + run.stderr).decode(errors="replace")
        assert run.returncode == 0, self.said

    def python(self, text: str) -> None:
        """Run a program, which knows what those before it made."""
        with redirect_stdout(io.StringIO()) as said:
            exec(compile(text, "guide", "exec"), self.names)
        self.said = said.getvalue()

    def text(self, text: str) -> None:
        """See that this was said."""
        for line in text.splitlines():
            assert line in self.said


@pytest.fixture
def reader(lm, tmp_path, monkeypatch, request) -> Iterator[Reader]:
    """Return somebody in a folder with a model, and a server of it."""
    if not shutil.which("curl"):
        pytest.skip("needs curl, which is not installed")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    save_model(lm.model, lm.tokenizer, tmp_path / "runs" / "demo" / "model")
    monkeypatch.chdir(tmp_path)
    keys = KeyRing([f"anna:{KEY}"]) if getattr(request, "param", False) else None
    settings = Settings(port=0)
    app = create_app(lm, settings, keys=keys, model_name="demo")
    with live(app, settings, app.room) as server:
        yield Reader(tmp_path, server.port)


def test_a_model_is_served_as_the_guide_says(reader):
    assert reader.follow("serving.md") > 8
    assert (reader.place / "texts.jsonl").read_text().count("\n") == 3
    reader.names["client"].close()


@pytest.mark.parametrize("reader", [True], indirect=True)
def test_a_server_is_watched_as_the_guide_says(reader):
    assert reader.follow("observability.md") > 4


@pytest.mark.parametrize("reader", [True], indirect=True)
def test_a_server_is_deployed_as_the_guide_says(reader):
    (reader.place / "keys").write_text(f"anna:{KEY}\n")
    assert reader.follow("deployment.md") > 3


@pytest.mark.parametrize("reader", [True], indirect=True)
def test_keys_are_made_and_used_as_the_guide_says(reader, monkeypatch):
    blocks = []
    monkeypatch.setattr(reader, "sh", blocks.append)
    reader.follow("security.md")
    monkeypatch.undo()
    made, used = blocks
    monkeypatch.chdir(reader.place)
    reader.sh(made)
    assert (reader.place / "keys").stat().st_mode & 0o077 == 0
    assert len(KeyRing((reader.place / "keys").read_text().splitlines())) == 1
    (reader.place / "keys").write_text(f"anna:{KEY}\n")
    reader.sh(used)
    assert '"id":"demo"' in reader.said


@pytest.mark.parametrize("said", ["curl localhost:8000/none", "false", "receptance generate none"])
def test_a_command_that_fails_is_not_passed_over(reader, said):
    with pytest.raises(AssertionError):
        reader.sh(said.replace("8000", str(reader.port)))


def test_a_setting_that_there_is_not_is_not_passed_over(reader):
    with pytest.raises(click.UsageError, match="max_body"):
        reader.sh("receptance serve m --set max_body=1")


def test_the_limits_of_the_security_guide_are_those_of_the_server():
    text = (GUIDES / "security.md").read_text(encoding="utf-8")
    names = re.findall(r"`([a-z]+_[a-z_]+)`", text)
    assert len(names) > 10
    assert [name for name in names if not hasattr(Settings(), name)] == []
