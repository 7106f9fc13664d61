"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch._functorch import config as functorch_config

# Machines are shared and noisy: no test asserts a time.
settings.register_profile("receptance", deadline=None)
settings.load_profile("receptance")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# PyTorch's cache of traced gradients outlives a test run and does not see when an op changes.
functorch_config.enable_autograd_cache = False

# Threads that wait for each other on busy cores make small models thirty times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real texts and vocabularies, or skip the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs real text and vocabularies in {SHARED_DATA}, which is absent")
    return SHARED_DATA
