"""What the documentation shows of the command line is what the command line says."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_the_help_in_the_reference_is_current():
    command = [sys.executable, "-m", "cogapp", "--check", "docs/reference/cli.md"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run `make docs`"
