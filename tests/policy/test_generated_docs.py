"""What the reference shows is what the code says."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["cli.md", "server-settings.md"])
def test_a_page_of_the_reference_is_current(name):
    command = [sys.executable, "-m", "cogapp", "--check", f"docs/reference/{name}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run `make docs`"
