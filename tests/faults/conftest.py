"""The runs that meet faults, and one that meets none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receptance.data import prepare
from tests.faults.tiny_runs import Runner, outcome

HERE = Path(__file__).parent


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a count for whoever runs the tests."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text} ")

    return say


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C++ compiler and Linux, whose calls are intercepted")
    path = tmp_path_factory.mktemp("faults") / "inject.so"
    flags = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, HERE / "inject.cpp", "-o", path], check=True)
    return path


@pytest.fixture(scope="session")
def runner(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """The process whose forks run the commands."""
    root = tmp_path_factory.mktemp("runs")
    for index in range(20):
        (root / f"{index}.txt").write_text(f"the cat of house {index} sat on the mat.\n" * 5)
    prepare(sorted(root.glob("*.txt")), "bytes", root / "store")
    environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, HERE / "runner.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Runner(process, root, root / "store")
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def whole(runner: Runner) -> dict[str, Any]:
    """What the run comes to that meets no fault."""
    place = runner.place()
    assert runner.train(place).code == 0, (place / "told").read_text()
    return outcome(place)
