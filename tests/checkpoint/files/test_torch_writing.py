"""A torch file that was written one tensor at a time is one that PyTorch wrote."""

import weakref
import zipfile

import pytest
import torch

from receptance.checkpoint.files.torch_file import map_torch_file
from receptance.checkpoint.files.torch_writing import write_torch_file
from receptance.tensor_file import ALIGNMENT, Entry

TENSORS = {
    "a": torch.randn(3, 5),
    "b": torch.randn(7).bfloat16(),
    "c": torch.randn(1, 1, 4).half(),
    "d": torch.randn(100, 100),
}


@pytest.fixture
def path(tmp_path):
    write_torch_file(tmp_path / "file.pth", {n: Entry.of(t) for n, t in TENSORS.items()})
    return tmp_path / "file.pth"


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("restricted", [False, True])
def test_pytorch_reads_it(path, mapped, restricted):
    found = torch.load(path, weights_only=restricted, mmap=mapped)

    assert type(found) is dict
    assert [*found] == [*TENSORS]
    for name, tensor in found.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])
        assert not tensor.requires_grad


@pytest.mark.parametrize("read_only", [False, True])
def test_we_read_it(path, read_only):
    found = map_torch_file(path, read_only=read_only).tensors

    assert all(torch.equal(found[name].read(), tensor) for name, tensor in TENSORS.items())


def test_the_zip_is_whole_and_its_numbers_lie_at_multiples_of_64_bytes(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    for tensor in torch.load(path, weights_only=True, mmap=True).values():
        assert tensor.data_ptr() % ALIGNMENT == 0


def test_the_same_tensors_give_the_same_file(path, tmp_path):
    write_torch_file(tmp_path / "again.pth", {n: Entry.of(t) for n, t in TENSORS.items()})

    assert (tmp_path / "again.pth").read_bytes() == path.read_bytes()


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    alive: list[weakref.ref[torch.Tensor]] = []

    def read() -> torch.Tensor:
        assert all(each() is None for each in alive)
        tensor = torch.ones(8, 8)
        alive.append(weakref.ref(tensor))
        return tensor

    entries = {str(i): Entry(torch.float32, (8, 8), read) for i in range(4)}
    write_torch_file(tmp_path / "file.pth", entries)
    assert len(alive) == 4
