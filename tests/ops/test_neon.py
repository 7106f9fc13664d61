"""The kernels of the other architecture, AArch64 with NEON: cross-compiled and emulated."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
PROGRAMS = sorted(path.stem for path in (NATIVE / "tests").glob("test_*.cpp"))

# The environment's own CMake and Ninja before the system's.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def tool(*names: str) -> str:
    """Return the first of these programs that is installed, or skip the test."""
    found = next((path for each in names if (path := shutil.which(each, path=PATH))), None)
    return found or pytest.skip(f"needs {names[0]}, which is not installed")


def run(*command: str | Path) -> str:
    """Return the output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the programs, compiled as strictly as the library is at work."""
    compiler = tool("aarch64-linux-gnu-g++")
    folder = tmp_path_factory.mktemp("aarch64")
    settings = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": compiler,
        "CMAKE_EXE_LINKER_FLAGS": "-static",  # the target's libraries need not be found to run
        "RECEPTANCE_BINDINGS": "OFF",
        "SKBUILD_STATE": "editable",
    }
    cmake, ninja = tool("cmake"), tool("ninja")
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    run(
        *(cmake, "-S", NATIVE, "-B", folder, "-G", "Ninja"),
        *(f"-DCMAKE_MAKE_PROGRAM={ninja}", *defined),
    )
    run(cmake, "--build", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_kernels_pass_their_own_tests_on_neon(program, request):
    emulator = tool("qemu-aarch64-static", "qemu-aarch64")
    output = run(emulator, request.getfixturevalue("build") / program)
    for name in ("portable", "neon"):
        assert name in output
