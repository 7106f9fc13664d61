"""A hint names the command as it was called."""

import sys
from pathlib import Path

import pytest

from receptance.cli.invocation import command_line


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "receptance"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_command_on_the_path_is_its_name(program, monkeypatch):
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert command_line("train", "my run.toml") == "receptance train 'my run.toml'"


def test_one_that_is_not_on_the_path_is_what_was_typed(program, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert command_line("demo") == f"{program} demo"


def test_a_module_is_run_by_python(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/receptance/__main__.py"])
    assert command_line("demo") == "python -m receptance demo"
