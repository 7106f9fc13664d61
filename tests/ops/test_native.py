"""The native extension as a library: what it offers, and its tests that need no Python."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from receptance.ops import native

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "editable"

needs_library = pytest.mark.skipif(
    native.library_obstacle() is not None, reason=str(native.library_obstacle())
)
needs_build = pytest.mark.skipif(
    not BUILD.is_dir(), reason=f"needs the extension's build folder {BUILD}, left by make setup"
)


def test_an_absent_library_is_an_obstacle_that_says_how_to_build_it():
    obstacle = native.library_obstacle()
    if obstacle is None:
        assert native.LIBRARY.is_file()
    else:
        assert not native.LIBRARY.exists()
        assert str(native.LIBRARY) in obstacle
        assert obstacle.endswith("build it with: make setup")


def test_the_package_works_without_the_library(tmp_path: Path):
    # A copy of the sources without the library: everything imports, and `native` says why not.
    sources = ROOT / "src" / "receptance"
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(sources, tmp_path / "receptance", ignore=ignored)
    paths = [str(tmp_path), sysconfig.get_paths()["purelib"]]
    program = (
        f"import sys; sys.path[:0] = {paths!r}\n"
        "import torch\n"
        "from receptance.ops import native\n"
        "from receptance.ops.wkv4 import IMPLEMENTATIONS, WKV4State, wkv4\n"
        "assert native.instruction_sets() == {}\n"
        "k, state = torch.zeros(1, 2, 3), WKV4State.zeros(1, 3)\n"
        "args = (torch.zeros(3), torch.zeros(3), k, k, state)\n"
        "wkv4(*args)\n"
        "print(native.LIBRARY, IMPLEMENTATIONS[0].obstacle(*args, None))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],  # -S: or the installed package would be found
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in done.stdout
    assert "the extension is not built" in done.stdout


@needs_library
def test_instruction_sets_begin_with_the_portable_one():
    sets = native.instruction_sets()
    assert next(iter(sets.items())) == ("portable", 1)
    assert set(sets) <= {"portable", "avx2", "avx512", "avx512_bf16", "neon"}
    assert list(sets.values()) == sorted(set(sets.values()))
    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ("AVX2", "AVX512"):
        assert "avx2" in sets


@needs_library
def test_the_library_keeps_no_path_to_pytorch():
    # A wheel is installed beside another PyTorch than it was built with.
    assert b"site-packages" not in native.LIBRARY.read_bytes()


@needs_build
@pytest.mark.parametrize(
    "program", sorted(path.stem for path in (ROOT / "native" / "tests").glob("test_*.cpp"))
)
def test_the_kernels_pass_their_own_tests(program):
    done = subprocess.run([BUILD / program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for name in native.instruction_sets():
        assert name in done.stdout


@needs_build
def test_no_code_of_one_instruction_set_can_be_linked_as_anothers():
    # What an object file defines for the linker must carry the instruction set in its name: an
    # inline function without it could be taken from the AVX-512 object on a machine without it.
    for name in native.instruction_sets():
        objects = list(BUILD.glob(f"CMakeFiles/kernels_{name}.dir/src/*.o"))
        assert objects
        for path in objects:
            symbols = subprocess.run(
                ["nm", "--extern-only", "--defined-only", path],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            names = [line.split()[-1] for line in symbols.splitlines()]
            assert names
            assert [each for each in names if name not in each] == []


@needs_library
def test_obstacles_of_number_types_name_them():
    tensor = torch.zeros(2)
    for real, element in (
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float64),
    ):
        assert native.number_obstacle(real, element, tensor) is None
    assert native.number_obstacle(torch.float64, torch.bfloat16, tensor) == (
        "it serves float32, float32 with bfloat16, and float64, and these tensors are "
        "torch.float64 with torch.bfloat16"
    )
    assert native.number_obstacle(torch.float32, torch.float32, tensor, tensor.to("meta")) == (
        "it runs on the cpu, and a tensor is on meta"
    )
