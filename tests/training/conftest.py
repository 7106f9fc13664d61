"""Fixtures of the tests of training."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receptance.training import Run, list_checkpoints
from tests.training.on_ranks import Nursery, RankProcesses
from tests.training.tiny_run import hooks, stop_after, tiny_config, tiny_train


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Yield the process whose forks are the ranks."""
    nursery = Nursery()
    yield nursery
    nursery.end()


@pytest.fixture(scope="session")
def two_ranks(nursery: Nursery) -> Iterator[RankProcesses]:
    """Yield two processes that train together."""
    processes = RankProcesses(nursery, 2)
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def three_ranks(nursery: Nursery) -> Iterator[RankProcesses]:
    """Yield three: a number that divides little."""
    processes = RankProcesses(nursery, 3)
    yield processes
    processes.end()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of which three steps are done."""
    return tiny_train(tiny_config(), tmp_path, hooks(should_stop=stop_after(3)))[0]


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    """Its only checkpoint."""
    (path,) = list_checkpoints(tmp_path / "checkpoints")
    assert path.name == f"step-{run.begin.progress.step + 3:08d}"
    return path
