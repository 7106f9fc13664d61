"""A file of `torch.save` is mapped as it is; what would act, or lies about sizes, is refused."""

import io
import zipfile

import pytest
import torch

from receptance.checkpoint.files.torch_file import map_torch_file
from receptance.errors import CheckpointError

TENSORS = {
    "matrix": torch.randn(3, 5),
    "turned": torch.randn(4, 3).T,
    "half": torch.randn(7).bfloat16(),
    "part": torch.arange(10.0)[2:6],
    "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def path(tmp_path):
    torch.save(TENSORS, tmp_path / "file.pth")
    return tmp_path / "file.pth"


@pytest.mark.parametrize("read_only", [False, True])
def test_every_tensor_comes_back(path, read_only):
    tensors, others = map_torch_file(path, read_only=read_only)

    assert others == {}
    assert tensors.keys() == TENSORS.keys()
    for name, entry in tensors.items():
        found = entry.read()
        assert (entry.dtype, entry.shape) == (found.dtype, tuple(found.shape))
        assert found.dtype == TENSORS[name].dtype
        assert not found.requires_grad
        assert torch.equal(found, TENSORS[name])


def test_plain_values_are_given_beside_the_tensors(path):
    torch.save({"a": torch.ones(2), "text": "cpu fp32", "number": 6, "no": False}, path)

    tensors, others = map_torch_file(path)

    assert [*tensors] == ["a"]
    assert others == {"text": "cpu fp32", "number": 6, "no": False}


def test_what_is_written_to_a_mapped_tensor_stays_out_of_the_file(path):
    before = path.read_bytes()

    map_torch_file(path).tensors["matrix"].read().zero_()

    assert path.read_bytes() == before


def test_a_file_whose_numbers_lie_at_odd_places_is_read(path):
    """So do files of before PyTorch 1.6 was out, which say nothing of how they are aligned."""
    archive = zipfile.ZipFile(path)
    parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            if "/." not in name:
                archive.writestr(name, data)

    tensors, _ = map_torch_file(path, read_only=True)

    assert all(torch.equal(entry.read(), TENSORS[name]) for name, entry in tensors.items())


def test_a_part_that_is_shorter_than_its_tensor_is_refused(path):
    archive = zipfile.ZipFile(path)
    parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data[:-4] if name.endswith("/data/0") else data)

    with pytest.raises(
        CheckpointError, match=r"'matrix' in .* must have the numbers that it claims"
    ):
        map_torch_file(path)


def test_a_file_of_before_2020_is_refused(path):
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue())

    with pytest.raises(
        CheckpointError, match=r"must be a zip, as `torch.save` writes it since 2020"
    ):
        map_torch_file(path)


def test_a_file_that_was_replaced_is_checked_again(path):
    assert map_torch_file(path).tensors.keys() == TENSORS.keys()

    torch.save({"other": torch.ones(3)}, path)
    assert [*map_torch_file(path).tensors] == ["other"]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError):
        map_torch_file(path)
