"""Run all that needs a GPU: the tests marked `gpu`, each benchmark of this folder, the targets.

    make gpu                      # in .venv
    make gpu PYTHON=python3       # in what is installed for that Python; installs nothing
    python benchmarks/gpu/run.py --device cpu --quick        # to try it without a GPU

Everything runs from src/. The extension is built by CMake with the PyTorch of this Python, which
must be 2.10 or later, in build/gpu. What is missing for any of it is named at once, before anything
is begun. Figures are in benchmarks/results/DEVICE/*.json, those of a killed run too. It ends with 1
where a test or a benchmark failed, and with 2 where something is missing; a target that is not met
is said and no failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "gpu"
# What the tests need beside the package and its own dependencies.
FOR_TESTS = ("pytest>=8", "hypothesis>=6.100")
# Of these, what is measured and tested with, together: a package may be there without its own.
IMPORTED = (
    "hypothesis",
    "pytest",
    "receptance.benchmark",
    "receptance.inference",
    "receptance.training",
)
BUILD_SECONDS = 180.0
MOST_WORKERS = 8
# Of the time that is left after the tests; the rest is for a case that has just begun.
SHARES = {"bench_wkv4.py": 0.15, "bench_training.py": 0.4, "bench_decode.py": 0.3}
TEST_SHARE = 0.4
LAST_SECONDS = 30.0
"""Kept for what is said of the targets."""
IS_OF_GPU = re.compile(r"mark\.gpu\b|\btriton_device\b")
NO_TESTS = 5
"""How pytest ends that collected none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check, build, test and measure, within the time."""
    parser = argparse.ArgumentParser(description="Run all that needs a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny shapes")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="[default: results/DEVICE]")
    options = parser.parse_args(argv)
    end = time.monotonic() + 60 * options.minutes
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    missing = [*missing_packages([*project["dependencies"], *FOR_TESTS]), *missing_tools()]
    if find_spec("triton") is None:  # whose package has several names, by the maker of the GPU
        missing.append("triton")
    if missing:
        print(f"{sys.executable} must have: {', '.join(missing)}", file=sys.stderr)
        return 2
    if not python(["-c", f"import {', '.join(IMPORTED)}"], 120):
        print(f"{sys.executable} lacks what its packages need, as it says above", file=sys.stderr)
        return 2
    if options.device != "cpu" and not sees_gpu():
        print(
            "PyTorch sees no GPU here; `receptance doctor` says why. To try the programs: "
            f"{Path(__file__).relative_to(ROOT)} --device cpu --quick",
            file=sys.stderr,
        )
        return 2
    failed = [] if build() else ["the extension"]
    if options.device != "cpu" and not test((end - time.monotonic()) * TEST_SHARE):
        failed.append("the tests")
    arguments = ["--device", options.device]
    arguments += [] if options.out is None else ["--out", str(options.out)]
    end -= LAST_SECONDS
    left = end - time.monotonic()
    for name, share in SHARES.items():
        command = [str(Path(__file__).with_name(name)), *arguments]
        command += ["--seconds", f"{left * share:.0f}", *(["--quick"] if options.quick else [])]
        if not python(command, end - time.monotonic()):
            failed.append(name)
    if not python([str(Path(__file__).with_name("targets.py")), *arguments], LAST_SECONDS):
        failed.append("targets.py")
    print(f"failed: {', '.join(failed)}" if failed else "all done")
    return 1 if failed else 0


def missing_packages(requirements: Sequence[str]) -> list[str]:
    """Return those of some requirements, as "torch>=2.10", that this Python does not fulfil."""
    missing = []
    for requirement in requirements:
        name, oldest = requirement.split(">=")
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(requirement)
            continue
        if numbers(version) < numbers(oldest):
            missing.append(f"{requirement} (it has {version})")
    return missing


def numbers(version: str) -> list[int]:
    """Return the numbers of a version's release: of "2.11.0+cu130" 2, 11 and 0."""
    found = re.match(r"\d+(\.\d+)*", version)
    return [int(each) for each in found.group().split(".")] if found else []


def missing_tools() -> list[str]:
    """Return what the extension cannot be built without."""
    compilers = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    has_compiler = any(each and shutil.which(each) for each in compilers)
    tools = [] if has_compiler else ["a C++ compiler"]
    return tools if cmake() else [*tools, "cmake>=3.26"]


def cmake() -> str | None:
    """Return the CMake of this Python, or that of the system, if it is new enough."""
    beside = Path(sys.executable).with_name("cmake")
    for found in (str(beside) if beside.exists() else None, shutil.which("cmake")):
        if found is not None:
            said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
            if numbers(said.removeprefix("cmake version ")) >= [3, 26]:
                return found
    return None


def sees_gpu() -> bool:
    """Return whether PyTorch sees a GPU; asked in a process of its own, which then frees it."""
    return python(["-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"], 120)


def build() -> bool:
    """Build the extension into src/, where the package looks for it; return whether it is there."""
    program = cmake()
    assert program is not None
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = [
        *(program, "-S", str(ROOT / "native"), "-B", str(BUILD), *generator),
        *(f"-DPython_EXECUTABLE={sys.executable}", "-DRECEPTANCE_INTO_SOURCES=ON"),
    ]
    compile_ = [program, "--build", str(BUILD), "--target", "receptance_native", "--parallel"]
    print("building the extension", flush=True)
    for command in (configure, compile_):
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=BUILD_SECONDS,
            )
        except subprocess.TimeoutExpired:
            print(f"stopped after {BUILD_SECONDS:.0f} s: {' '.join(command[:3])} …", flush=True)
            return False
        if done.returncode != 0:
            print(done.stdout, file=sys.stderr)
            return False
    return True


def test(seconds: float) -> bool:
    """Run the tests that need a GPU; return whether they passed."""
    files = [str(path) for path in gpu_tests(ROOT / "tests")]
    # Without the hook that checks shapes, which would need more packages; other versions of
    # packages than ours may warn.
    options = ("addopts=--import-mode=importlib --strict-markers", "filterwarnings=default")
    settings = [part for option in options for part in ("-o", option)]
    return python(
        ["-m", "pytest", "-q", "-m", "gpu and not slow", *workers(), *settings, *files],
        seconds,
        well=(0, NO_TESTS),
    )


def workers() -> list[str]:
    """Return what makes pytest share the tests among processes, where it can.

    Most of their time is that of the compiler, which is on the CPU; and a kernel that fails may
    spoil the GPU for its process until that ends.
    """
    if find_spec("xdist") is None:
        return []
    return ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1)), "--dist", "worksteal"]


def gpu_tests(folder: Path) -> list[Path]:
    """Return the files with tests for a GPU: to import all others would need all their packages."""
    paths = sorted(folder.rglob("test_*.py"))
    return [path for path in paths if IS_OF_GPU.search(path.read_text(encoding="utf-8"))]


def python(arguments: Sequence[str], seconds: float, well: Sequence[int] = (0,)) -> bool:
    """Run this Python on what is in src/; return whether it ended well and in time."""
    paths = [str(ROOT / "src"), str(ROOT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, timeout=max(seconds, 1.0)
        )
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:.0f} s: {' '.join(arguments[:3])} …", flush=True)
        return False
    return done.returncode in well


if __name__ == "__main__":
    sys.exit(main())
