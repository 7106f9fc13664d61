"""Fixtures that every test may use."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from hypothesis import settings
from jaxtyping import config as jaxtyping_config
from torch._functorch import config as functorch_config

from receptance.ops.triton import interpreting
from tests.interpreter import as_on_a_gpu
from tests.kernel_finder import leave_kernels_alone
from tests.local_hub import LocalHub

# Machines are shared and noisy: no test asserts a time.
settings.register_profile("receptance", deadline=None)
settings.load_profile("receptance")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# PyTorch's cache of traced gradients outlives a test run and does not see when an op changes.
functorch_config.enable_autograd_cache = False

leave_kernels_alone()

# Triton decides for a whole process whether kernels are compiled or interpreted. Where there is a
# GPU they are compiled, and the tests that need the interpreter skip themselves; the variable may
# be set from outside to have it the other way.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

# Some versions of Triton warn where this is not said, and a warning is an error here. It is their
# default.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

# Threads that wait for each other on busy cores make small models thirty times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real texts and vocabularies, or skip the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs real text and vocabularies in {SHARED_DATA}, which is absent")
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where PyTorch sees none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a GPU, and PyTorch sees none"))


@pytest.fixture
def interpreted() -> Iterator[None]:
    """Let Triton's kernels run tensors of the CPU, in Triton's interpreter."""
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    if os.environ["TRITON_INTERPRET"] != "1":
        pytest.skip("kernels are compiled where there is a GPU; set TRITON_INTERPRET=1")
    with interpreting(), as_on_a_gpu():
        yield


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def triton_device(request: pytest.FixtureRequest) -> str:
    """The devices that Triton's kernels are tested on: the CPU (interpreted), and a GPU."""
    if request.param == "cpu":
        request.getfixturevalue("interpreted")
    elif os.environ["TRITON_INTERPRET"] == "1":
        pytest.skip("kernels are interpreted in this run, by TRITON_INTERPRET=1")
    return request.param


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Leave the hook out of a long test, whose calls are those that short ones check.

    To check the shapes of a small model's calls takes several times as long as the calls.
    """
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub without repositories that the library asks, with a cache below tmp_path / "home"."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with LocalHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


@pytest.fixture
def parts_may_be_rounded() -> Iterator[Callable[[], bool]]:
    """Let products round parts of a sum on a GPU, as PyTorch does; yields whether they still may.

    It is a setting of the whole process, which pytest's `monkeypatch` cannot put back.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = True
    yield lambda: bool(matmul.allow_bf16_reduced_precision_reduction)
    matmul.allow_bf16_reduced_precision_reduction = before


@pytest.fixture
def _restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
