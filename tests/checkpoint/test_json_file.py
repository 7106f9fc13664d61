"""JSON that comes from anywhere is an object, of one meaning, and not too large."""

import os

import pytest

from receptance.checkpoint.json_file import read_json, write_json
from receptance.errors import CheckpointError


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
        (b"[" * 100_000, "must be JSON"),
        (b"[1]", r"must be a JSON object, but it is \[1\]"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' must come once, but it comes twice"),
        (b" " * ((1 << 24) + 1), "must have at most 16777216 bytes, but it has 16777217"),
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
