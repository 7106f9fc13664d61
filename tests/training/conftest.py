"""Fixtures of the tests of training."""

from collections.abc import Iterator

import pytest

from tests.training.on_ranks import RankProcesses


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[RankProcesses]:
    """Yield two processes that train together."""
    processes = RankProcesses(2)
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def three_ranks() -> Iterator[RankProcesses]:
    """Yield three: a number that divides little."""
    processes = RankProcesses(3)
    yield processes
    processes.end()
