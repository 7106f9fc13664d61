"""JSON that comes from anywhere is an object, of one meaning, and not too large."""

import os

import pytest

from receptance.checkpoint.files.json_file import read_json, write_json
from receptance.errors import CheckpointError
from tests.hostile.cases import json_bombs


def test_what_was_written_is_read(tmp_path):
    write_json(tmp_path / "file", {"b": [1, 2.5], "a": None})

    assert read_json(tmp_path / "file") == {"a": None, "b": [1, 2.5]}
    assert (tmp_path / "file").read_text().endswith("}\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must be JSON, but it is not"),
        (b"{", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        ('{"a": 1}'.encode("utf-16"), "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"[1]", r"must be a JSON object, but it is \[1\]"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' must come once, but it comes twice"),
        (b" " * ((1 << 20) + 1), "must have at most 1048576 bytes, but it has 1048577"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(CheckpointError, match=words):
        read_json(tmp_path / "file")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(CheckpointError, match="must be a regular file, but it is none"):
        read_json(tmp_path / "pipe")


def test_no_bomb_passes(tmp_path):
    path = tmp_path / "file"
    harmless = ("the value {}", "an exponent", "a lone surrogate", "control characters")
    for name, content in json_bombs(b'{"a": 1}'):
        path.write_bytes(content)
        if name not in harmless:
            with pytest.raises(CheckpointError):
                read_json(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").symlink_to("/proc/self/mem")
    with pytest.raises(CheckpointError, match=r"file' cannot be read: Input/output error"):
        read_json(tmp_path / "file")
