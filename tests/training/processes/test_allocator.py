"""Freed memory stays with the process; looked at in processes of their own, which it changes."""

import subprocess
import sys

import pytest

from receptance.training.processes.allocator import keep_freed_memory

# Allocates and frees 64 MiB ten times over and counts the pages that had to be mapped.
PROGRAM = """
import resource, sys
import torch
from receptance.training.processes.allocator import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("no mallopt")
for _ in range(3):  # the heap may grow once more: an aligned block is cut out of a larger one
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=False
    )
    if "no mallopt" in done.stderr:
        pytest.skip("the C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_what_is_freed_is_used_again_without_asking_the_system():
    pages = (64 << 20) // 4096
    assert faults("kept") < pages / 10
    # What it is for: else every one of the ten blocks is mapped anew, in huge pages at best.
    assert faults("plain") >= 10 * (64 // 2)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_it_does_nothing_and_says_so(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert keep_freed_memory() is False


def test_a_c_library_without_the_call_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False
