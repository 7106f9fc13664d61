"""The wheel: one file for every Python, which installs and runs where nothing can be compiled."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from receptance.checkpoint import save_model
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import BytesTokenizer

PROJECT = Path(__file__).parents[1]


def succeed(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", folder]
    command = [sys.executable, "-m", "pip", "wheel", *options, PROJECT]
    succeed(*command, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, and no compiler on its PATH."""
    folder = tmp_path_factory.mktemp("new") / "environment"
    succeed(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    succeed(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # What the wheel depends on is taken from here: it is PyTorch above all, too large to install
    # again. Only the names are taken, not the hooks by which the checkout is installed here.
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(environment: Path, *command: str | Path) -> str:
    clean = {"PATH": str(environment / "bin"), "HOME": str(environment), "OMP_NUM_THREADS": "1"}
    return succeed(*command, env=clean, cwd=environment)


def test_one_wheel_serves_every_python(wheel: Path):
    assert wheel.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")


def test_the_wheel_holds_the_chat_page(wheel: Path):
    static = PROJECT / "src" / "receptance" / "serving" / "page" / "static"
    inside = {name for name in ZipFile(wheel).namelist() if "/page/static/" in name}
    assert inside == {f"receptance/serving/page/static/{each.name}" for each in static.iterdir()}


def test_no_compiler_is_on_the_path_of_the_new_environment(environment: Path):
    names = {path.name for path in (environment / "bin").iterdir()}
    assert not names & {"gcc", "g++", "c++", "cc", "clang", "clang++", "cmake", "ninja"}


def test_the_wheel_generates_text_with_its_own_kernels(environment: Path):
    model = RWKV4(RWKV4Config(n_layer=2, n_embd=32, vocab_size=256))
    torch.manual_seed(1)
    model.init_weights()
    save_model(model, BytesTokenizer(), environment / "model")
    where = "import receptance.ops.native as n; print(n.__file__, n.library_obstacle())"
    file, obstacle = run(environment, environment / "bin" / "python", "-c", where).split()
    assert Path(file).is_relative_to(environment)
    assert obstacle == "None"
    options = ["--max-tokens", "8", "--seed", "1", "--json"]
    command = [environment / "bin" / "receptance", "generate", "model", "ab", *options]
    assert '"finish_reason"' in run(environment, *command)
