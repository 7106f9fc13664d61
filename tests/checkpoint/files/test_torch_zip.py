"""A zip is read only if every program would see the same in it."""

import zipfile
from functools import partial

import pytest
import torch

from receptance.checkpoint.files.torch_zip import check_zip
from receptance.errors import CheckpointError
from tests.hostile import official
from tests.hostile.zip_writer import End, Record


@pytest.fixture
def path(tmp_path):
    torch.save({"a": torch.randn(3, 5), "b": torch.randn(7)}, tmp_path / "file.pth")
    return tmp_path / "file.pth"


def test_the_parts_of_a_zip_are_found(path):
    records = check_zip(path)

    content = path.read_bytes()
    assert records.size == len(content)
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    found = [content[begin : begin + length] for begin, length in records.lengths.items()]
    assert sorted(found) == sorted(parts.values())


def test_a_file_of_the_other_byte_order_is_refused(path):
    archive = zipfile.ZipFile(path)
    parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, b"big" if name.endswith("/byteorder") else data)

    with pytest.raises(CheckpointError, match="must have the byte order of this machine"):
        check_zip(path)


def test_parts_that_overlap_are_refused(path):
    """Two entries of the directory that name the same bytes: how a small zip claims to be large."""
    content = path.read_bytes()
    begin = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x06\x06" if b"PK\x06\x06" in content else b"PK\x05\x06")
    entries = [b"PK\x01\x02" + each for each in content[begin:end].split(b"PK\x01\x02")[1:]]
    entries[1] = entries[1][:42] + entries[2][42:46] + entries[1][46:]
    path.write_bytes(content[:begin] + b"".join(entries) + content[end:])

    with pytest.raises(CheckpointError, match="must lie one after the other"):
        check_zip(path)


def test_a_pickle_beyond_all_need_is_refused_unread(path):
    archive = zipfile.ZipFile(path)
    parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data + b"\0" * (name.endswith(".pkl") * 2_000_001))

    with pytest.raises(CheckpointError, match=r"data.pkl' in .* must have at most 2000000 bytes"):
        check_zip(path)


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
        check_zip(path)


def test_a_zip_of_64_bits_is_read(path):
    path.write_bytes(written(end=End(is_large=True)))

    assert len(check_zip(path).lengths) > len(official.weights())
