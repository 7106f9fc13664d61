"""A manifest tells every bit of a checkpoint that is not as it was written."""

import errno
import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from receptance.errors import CheckpointError
from receptance.training.checkpoints.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    DamagedError,
    FileRecord,
    Manifest,
    manifest_bytes,
    read_manifest,
    verify,
)

CONTENTS = {"a.txt": b"one", "b/c.bin": bytes(range(200)), "b/empty": b""}


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        step=12,
        tokens=768,
        world_size=2,
        config_sha256="ab" * 32,
        code_version="1.0",
        parent="step-00000008",
        valid_bits_per_byte=2.125,
        files={
            name: FileRecord(len(content), hashlib.sha256(content).hexdigest())
            for name, content in CONTENTS.items()
        },
    )


@pytest.fixture
def folder(tmp_path: Path, manifest: Manifest) -> Path:
    (tmp_path / "b").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / MANIFEST_FILE).write_bytes(manifest_bytes(manifest))
    return tmp_path


def test_what_was_written_is_read_back(folder, manifest):
    assert read_manifest(folder) == manifest
    assert verify(folder) == manifest
    assert verify(folder, hashes=False) == manifest


def test_it_is_json_that_any_program_reads(folder):
    entries = json.loads((folder / MANIFEST_FILE).read_text())

    assert entries["format"] == "receptance-training"
    assert entries["format_version"] == FORMAT_VERSION
    assert entries["step"] == 12
    assert entries["files"]["a.txt"] == {
        "size": 3,
        "sha256": hashlib.sha256(b"one").hexdigest(),
    }


def test_every_flipped_bit_of_the_manifest_itself_is_found(folder):
    path = folder / MANIFEST_FILE
    content = path.read_bytes()
    missed = []
    with path.open("r+b", buffering=0) as file:
        for place in range(8 * len(content)):
            byte = content[place // 8]
            os.pwrite(file.fileno(), bytes([byte ^ 1 << place % 8]), place // 8)
            try:
                read_manifest(folder)
                missed.append(place)
            except DamagedError:
                pass
            os.pwrite(file.fileno(), bytes([byte]), place // 8)

    assert len(content) > 500
    assert missed == []


def test_every_truncation_of_the_manifest_is_found(folder):
    path = folder / MANIFEST_FILE
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedError, match=r"MANIFEST.json' must be as it was written"):
            read_manifest(folder)


@pytest.mark.parametrize("content", [b"[1]", b"null", b"{}", b"\xff", b"[" * 100_000, b'"sha256"'])
def test_what_is_no_manifest_is_damaged(folder, content):
    (folder / MANIFEST_FILE).write_bytes(content)

    with pytest.raises(DamagedError):
        read_manifest(folder)


def test_every_flipped_bit_of_a_file_is_found_by_its_hash(folder):
    generator = random.Random(1)
    for name, content in CONTENTS.items():
        for place in generator.sample(range(8 * len(content)), min(20, 8 * len(content))):
            flipped = bytearray(content)
            flipped[place // 8] ^= 1 << place % 8
            (folder / name).write_bytes(flipped)
            with pytest.raises(DamagedError) as caught:
                verify(folder)
            assert f"'{folder / name}' must have the sha256" in str(caught.value)
            assert verify(folder, hashes=False).step == 12
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_of_another_size_is_found_without_reading_it(folder, name, hashes):
    with (folder / name).open("ab") as file:
        file.write(b"x")

    with pytest.raises(DamagedError) as caught:
        verify(folder, hashes=hashes)

    size = len(CONTENTS[name])
    assert f"{name}' must have {size} bytes, but it has {size + 1}" in str(caught.value)


@pytest.mark.parametrize("name", [*CONTENTS, MANIFEST_FILE])
def test_a_file_that_is_missing_is_found(folder, name):
    (folder / name).unlink()

    with pytest.raises(DamagedError, match=r"cannot be read: No such file or directory"):
        verify(folder, hashes=False)


def test_a_folder_in_the_place_of_a_file_is_found(folder):
    (folder / MANIFEST_FILE).unlink()
    (folder / MANIFEST_FILE).mkdir()

    with pytest.raises(DamagedError, match="cannot be read: Is a directory"):
        verify(folder)


def test_a_file_that_may_not_be_read_tells_nothing_about_the_checkpoint(folder, monkeypatch):
    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError):
        read_manifest(folder)


def test_another_format_is_an_error_but_no_damage(folder):
    entries = json.loads((folder / MANIFEST_FILE).read_text()) | {"format_version": 99}
    del entries["sha256"]
    seal = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    text = json.dumps({**entries, "sha256": seal}, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text)

    with pytest.raises(CheckpointError) as caught:
        verify(folder)

    assert not isinstance(caught.value, DamagedError)
    assert f"the format receptance-training {FORMAT_VERSION}, but it is receptance-training 99" in (
        str(caught.value)
    )
