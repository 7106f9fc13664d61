"""Memory that is used is seen."""

import mmap
import subprocess
import sys

import pytest

from receptance.benchmark import peak_resident_bytes, resident_bytes

N_BYTES = 1 << 26


def test_what_is_written_is_resident_and_what_was_is_in_the_peak():
    before = resident_bytes()
    if before is None:
        pytest.skip("only Linux tells")
    # Pages of its own, where a tensor may get some that this process has already.
    with mmap.mmap(-1, N_BYTES) as block:
        for page in range(0, N_BYTES, mmap.PAGESIZE):
            block[page] = 1
        with_block = resident_bytes()

    assert with_block is not None
    assert with_block - before >= 0.9 * N_BYTES
    peak = peak_resident_bytes()
    assert peak is not None
    assert peak >= with_block - (1 << 20)


def test_the_peak_of_a_process_is_its_own_and_not_of_the_one_that_started_it():
    if resident_bytes() is None:
        pytest.skip("only Linux tells")
    script = "from receptance.benchmark.memory import *; print(peak_resident_bytes())"
    with mmap.mmap(-1, 1 << 30) as block:
        for page in range(0, 1 << 30, mmap.PAGESIZE):
            block[page] = 1
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert int(done.stdout) < 1 << 30
