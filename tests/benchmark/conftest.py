"""Ceilings that need little memory."""

import pytest

from receptance.benchmark import ceilings


@pytest.fixture(autouse=True, scope="package")
def _little_memory():
    """Read a mebibyte instead of a gibibyte: the tests are of what is counted, not of speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "READ_BYTES", 1 << 20)
        yield
