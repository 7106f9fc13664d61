"""Whether Triton's kernels can run, and the ground that tests of kernels stand on."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec

import pytest
import torch

from receptance.ops import triton as ours
from receptance.ops.triton import interpreting, kernels_of, on_device_of, triton_obstacle
from tests.guarded_memory import guarded_memory
from tests.kernel_finder import KernelFinder


def test_tensors_on_the_cpu_are_refused():
    assert triton_obstacle(torch.zeros(1)) == "it runs on a GPU, and a tensor is on cpu"


@pytest.mark.usefixtures("interpreted")
def test_the_interpreter_runs_tensors_of_the_cpu_and_of_no_other_device():
    served = [torch.zeros(1, dtype=each) for each in (torch.float32, torch.float16, torch.int64)]
    assert triton_obstacle(*served, torch.zeros(1, dtype=torch.bool)) is None
    meta = torch.zeros(1, device="meta")
    assert triton_obstacle(*served, meta) == "it runs on a GPU, and a tensor is on meta"


@pytest.mark.usefixtures("interpreted")
def test_a_dtype_that_no_kernel_serves_is_named():
    obstacle = triton_obstacle(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    assert obstacle == ("it serves float32, bfloat16 and float16, and a tensor is torch.float64")


@pytest.mark.usefixtures("interpreted")
def test_interpreting_ends_where_its_context_ends():
    with interpreting():
        pass
    assert triton_obstacle(torch.zeros(1)) is None  # the fixture's goes on


def test_interpreting_is_refused_where_kernels_are_compiled(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    pytest.importorskip("triton")
    with (
        pytest.raises(RuntimeError, match="set TRITON_INTERPRET=1 before the start"),
        interpreting(),
    ):
        pass
    assert triton_obstacle(torch.zeros(1)) is not None


def test_without_triton_the_obstacle_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(ours, "_OBSTACLE", "triton is not installed; install it with: …")
    assert "not installed" in str(triton_obstacle(torch.zeros(1)))
    with pytest.raises(RuntimeError, match="not installed"), interpreting():
        pass


def test_kernels_are_imported_by_name():
    with pytest.raises(ModuleNotFoundError, match=r"receptance\.ops\.dispatch"):
        kernels_of("receptance.ops.dispatch")


def test_nothing_needs_to_be_made_current_for_the_cpu():
    with on_device_of(torch.zeros(1)):
        assert torch.zeros(1).is_cpu


@pytest.mark.gpu
def test_the_gpu_of_a_tensor_is_made_current():
    tensor = torch.zeros(1, device="cuda")
    with on_device_of(tensor):
        assert torch.cuda.current_device() == tensor.device.index


def test_the_hook_that_checks_shapes_leaves_kernels_alone(tmp_path, monkeypatch):
    folder = tmp_path / "receptance_like" / "triton"
    folder.mkdir(parents=True)
    (folder / "kernels.py").write_text('"""Nothing."""\n')
    (folder / "__init__.py").write_text("")
    spec = KernelFinder.find_spec("receptance_like.triton.kernels", [str(folder)])
    assert spec is not None
    assert type(spec.loader) is SourceFileLoader
    assert KernelFinder.find_spec("receptance_like.triton.launch", [str(folder)]) is None
    assert KernelFinder in sys.meta_path
    monkeypatch.setattr(sys, "meta_path", [KernelFinder])
    assert find_spec("receptance_like") is None


def test_guards_see_what_is_written_beside_a_tensor():
    with guarded_memory():
        for made in (
            torch.empty(2, 3),
            torch.empty_like(torch.zeros(4)),
            torch.zeros(1).new_empty(2),
        ):
            assert made.isnan().all()
            made.zero_()


def write_beside(position: int) -> None:
    """Write one element at a position of a tensor of six, from its start."""
    with guarded_memory():
        made = torch.empty((2, 3), dtype=torch.bfloat16)
        torch.as_strided(made, (1,), (1,), made.storage_offset() + position).fill_(1.0)


@pytest.mark.parametrize("position", [-1, 6])
def test_a_write_beside_a_tensor_is_an_error(position):
    with pytest.raises(AssertionError, match="a kernel wrote"):
        write_beside(position)
