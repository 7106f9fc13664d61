"""A folder to work in with a token store and a run, and the command run in it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from receptance.cli import main
from receptance.data import prepare

RUN = """
name = "tiny"

[model]
n_layer = 1
n_embd = 16

[data]
store = "store"
ctx_len = 16
batch_size = 4

[training]
steps = 12
precision = "float32"

[every]
checkpoint_steps = 5
validation_steps = 6
validation_tokens = 200
sample_steps = 6
sample_prompt = "the "
sample_tokens = 10
"""


class Result(NamedTuple):
    """What a command left."""

    code: int
    stdout: str
    stderr: str


Command = Callable[..., Result]


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token store of bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    texts = folder / "texts"
    texts.mkdir()
    for index in range(20):
        (texts / f"{index}.txt").write_text(f"the cat of house {index} sat on the mat.\n" * 5)
    prepare([texts], "bytes", folder / "store")
    return folder / "store"


@pytest.fixture
def place(tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: `store` and `run.toml` are in it."""
    (tmp_path / "store").symlink_to(tiny_store)
    (tmp_path / "run.toml").write_text(RUN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def receptance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, run in this process."""

    def run(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["receptance", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        assert isinstance(exited.value.code, int)
        captured = capsys.readouterr()
        return Result(exited.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def start() -> Callable[..., "subprocess.Popen[str]"]:
    """The command, started as a process of its own, with one thread."""

    def popen(*args: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "receptance", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    return popen
