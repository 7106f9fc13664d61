"""Memory: reading it, letting the system have it, and asking how much there is."""

from pathlib import Path

import pytest
import torch

from receptance.ops import memory
from receptance.ops.memory import available_bytes, page_out, read_all
from receptance.ops.native import instruction_sets, library_obstacle
from tests import small_machine

CPU = torch.device("cpu")
needs_library = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (1000, 33), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_a_tensor_of_any_shape_and_dtype_can_be_read(shape, dtype):
    tensor = torch.ones(shape, dtype=dtype)
    read_all(tensor)
    assert torch.equal(tensor, torch.ones(shape, dtype=dtype))


def test_a_parameter_can_be_read():
    read_all(torch.nn.Parameter(torch.ones(5)))


def test_without_the_library_it_is_read_all_the_same(monkeypatch):
    monkeypatch.setattr(memory, "library_obstacle", lambda: "the extension is not built")
    read_all(torch.ones(1000, 3))


@needs_library
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.usefixtures("_restored_threads")
def test_every_word_is_read_once_whatever_the_number_of_threads(instruction_set):
    words = torch.randint(-(2**62), 2**62, (300_007,), generator=torch.Generator().manual_seed(0))
    expected = 0
    for word in words.tolist():
        expected ^= word
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        number = instruction_sets()[instruction_set]
        assert torch.ops.receptance.read_all(words.view(torch.uint8), number) == expected


@pytest.mark.parametrize("wrong", [torch.ones(3, 4).t(), torch.ones(3, device="meta")])
def test_what_is_not_dense_on_the_cpu_is_refused(wrong):
    with pytest.raises(ValueError, match="`tensor` must be contiguous and on the cpu, got strides"):
        read_all(wrong)


@needs_library
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(9, dtype=torch.uint8), r"one axis of a multiple of 8, got \[9\]"),
        (torch.zeros(2, 8, dtype=torch.uint8), r"one axis of a multiple of 8, got \[2, 8\]"),
        (torch.zeros(8), "`bytes` must have the dtype Byte, got Float"),
    ],
)
def test_the_op_refuses_what_it_cannot_read(wrong, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.read_all(wrong)


@pytest.mark.parametrize("n", [0, 1, 1023, 100_000])
def test_what_is_paged_out_is_not_lost(n):
    tensor = torch.arange(n)
    page_out(tensor)
    page_out(tensor[1:])
    assert torch.equal(tensor, torch.arange(n))


def test_without_the_library_nothing_is_paged_out(monkeypatch):
    monkeypatch.setattr(memory, "library_obstacle", lambda: "the extension is not built")
    page_out(torch.ones(4).expand(3, 4))  # which the op would refuse


@needs_library
def test_what_has_no_memory_of_its_own_is_not_paged_out():
    with pytest.raises(RuntimeError, match="`tensor` must be contiguous and on the cpu"):
        page_out(torch.ones(4).expand(3, 4))


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    return small_machine.pretend(tmp_path, monkeypatch)


@pytest.mark.usefixtures("machine")
def test_the_tightest_group_around_the_process_counts():
    assert available_bytes(CPU) == 2 * 2**20


def test_without_groups_it_is_the_machine(machine):
    (machine / "own").unlink()
    assert available_bytes(CPU) == 8 * 2**20


def test_where_nobody_says_nobody_knows(machine):
    (machine / "own").unlink()
    (machine / "meminfo").unlink()
    assert available_bytes(CPU) is None
