"""Fixtures of the tests of ops."""

from collections.abc import Iterator

import pytest
import torch

from tests.guarded_memory import guarded_memory


@pytest.fixture
def _poisoned_memory() -> Iterator[None]:
    """Fill new uninitialised tensors with NaN, so that none of them passes for a result."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def _guarded_memory() -> Iterator[None]:
    """Fill new uninitialised tensors with NaN, and see whether a kernel writes outside of them."""
    with guarded_memory():
        yield
