"""A file of `torch.save` is mapped as it is; what would act, or lies about sizes, is refused."""

import io
import zipfile
from functools import partial

import pytest
import torch

from receptance.checkpoint.files.torch_file import map_torch_file
from receptance.errors import CheckpointError
from tests.hostile import official
from tests.hostile.zip_writer import End, Record

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


def test_a_file_of_the_other_byte_order_is_refused(path):
    archive = zipfile.ZipFile(path)
    parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, b"big" if name.endswith("/byteorder") else data)

    with pytest.raises(CheckpointError, match="must have the byte order of this machine"):
        map_torch_file(path)


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


def test_parts_that_overlap_are_refused(path):
    """Two entries of the directory that name the same bytes: how a small zip claims to be large."""
    content = path.read_bytes()
    begin = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x06\x06" if b"PK\x06\x06" in content else b"PK\x05\x06")
    entries = [b"PK\x01\x02" + each for each in content[begin:end].split(b"PK\x01\x02")[1:]]
    entries[1] = entries[1][:42] + entries[2][42:46] + entries[1][46:]
    path.write_bytes(content[:begin] + b"".join(entries) + content[end:])

    with pytest.raises(CheckpointError, match="must lie one after the other"):
        map_torch_file(path, read_only=True)


def test_a_pickle_beyond_all_need_is_refused_unread(path):
    archive = zipfile.ZipFile(path)
    parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data + b"\0" * (name.endswith(".pkl") * 2_000_001))

    with pytest.raises(CheckpointError, match=r"data.pkl' in .* must have at most 2000000 bytes"):
        map_torch_file(path)


def test_a_file_of_before_2020_is_refused(path):
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue())

    with pytest.raises(
        CheckpointError, match=r"must be a zip, as `torch.save` writes it since 2020"
    ):
        map_torch_file(path)


written = partial(official.written, official.weights())
WHOLE = written()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE + b"\0", "must be a zip"),
        (b"\0" + WHOLE, "something is before, behind or between its parts"),
        (WHOLE + WHOLE, "something is before, behind or between its parts"),
        (written(end=End(comment=b"x" * 99)), "something is before, behind or between its parts"),
        (written(end=End(count=3)), "something is before, behind or between its parts"),
        (written(end=End(directory_offset=0)), "(between its parts|Bad (magic|offset))"),
        (written(more=(Record("archive/DATA.PKL", b""),)), "two of its parts have the same name"),
        (written(more=(Record("x/data.pkl", b""),)), "its parts must be in one folder, 'archive'"),
        (written(more=(Record("archive/constants.pkl", b""),)), "a program of TorchScript"),
        (written(changes={"data/0": None}), "must hold the numbers of its tensors, but it has no"),
        (written(more=(Record("archive/x", b"", flags=1),)), "is compressed or encrypted"),
    ],
)
def test_a_zip_that_two_programs_could_read_otherwise_is_refused(path, content, words):
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=words):
        map_torch_file(path, read_only=True)


def test_a_zip_of_64_bits_is_read(path):
    path.write_bytes(written(end=End(is_large=True)))

    assert len(map_torch_file(path).tensors) == len(official.weights())


def test_a_file_that_was_replaced_is_checked_again(path):
    assert map_torch_file(path).tensors.keys() == TENSORS.keys()

    torch.save({"other": torch.ones(3)}, path)
    assert [*map_torch_file(path).tensors] == ["other"]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError):
        map_torch_file(path)
