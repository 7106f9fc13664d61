"""The command is there wherever the package is."""

import subprocess
import sys


def test_the_package_run_as_a_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "receptance", "xyz"], capture_output=True, text=True
    )

    assert result.returncode == 2
    assert "no such verb 'xyz'" in result.stderr
