import json
import re
from pathlib import Path
from typing import Any

import pytest

from receptance.data.manifest import (
    Manifest,
    Source,
    SplitManifest,
    Splits,
    read_manifest,
    write_manifest,
)
from receptance.errors import DataError

SPLIT = SplitManifest(tokens=3, bytes=2, documents=1, sha256=["ab"], documents_sha256=["cd"])
MANIFEST = Manifest(
    dtype="uint16",
    vocab_size=257,
    tokenizer="bytes",
    tokenizer_sha256="00ff",
    end_of_text=0,
    splits=Splits(train=SPLIT, valid=SPLIT),
    sources=[
        Source(
            path="text.txt",
            held_out=False,
            files=1,
            documents=1,
            bytes=2,
            blank_documents=0,
            undecodable_files=0,
        )
    ],
)


def change(folder: Path, key: str, value: Any) -> None:
    """Set a dotted key of a written manifest, or remove it if the value is ...."""
    write_manifest(MANIFEST, folder)
    path = folder / "store.json"
    content = json.loads(path.read_text())
    *parents, last = key.split(".")
    inner = content
    for parent in parents:
        inner = inner[parent]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(content))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    assert read_manifest(tmp_path) == MANIFEST


def test_the_file_says_what_it_is_first(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    content = json.loads((tmp_path / "store.json").read_text())
    assert list(content.items())[:2] == [("format", "receptance-tokens"), ("format_version", 1)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dtype", "int8", "is 'int8': Input should be 'uint16' or 'uint32'"),
        ("vocab_size", "257", "is '257': Input should be a valid integer"),
        ("vocab_size", True, "is True: Input should be a valid integer"),
        ("vocab_size", 0, "is 0: Input should be greater than or equal to 1"),
        ("vocab_size", ..., "is missing; prepare the store again"),
        ("tokenizer_sha256", None, "is None: Input should be a valid string"),
        ("splits.valid", ..., "is missing"),
        ("splits.train.tokens", -1, "is -1: Input should be greater than or equal to 0"),
        ("splits.train.tokens", 1.5, "is 1.5: Input should be a valid integer"),
        ("splits.train.sha256", "ab", "is 'ab': Input should be a valid array"),
        ("sources", {}, "is {}: Input should be a valid array"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    change(tmp_path, key, value)
    expected = rf"'.*store\.json': key `{re.escape(key)}` {re.escape(message)}"
    with pytest.raises(DataError, match=expected):
        read_manifest(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "format", "safetensors")
    with pytest.raises(DataError, match="key `format` must be 'receptance-tokens', got 'safetens"):
        read_manifest(tmp_path)


def test_another_version_is_refused_before_its_keys_are_looked_at(tmp_path: Path) -> None:
    change(tmp_path, "splits", ...)
    path = tmp_path / "store.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(DataError, match=r"key `format_version` must be 1, got 2; .* or upgrade"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(DataError, match=r"'.*store\.json' must be JSON, but is not \("):
        read_manifest(tmp_path)


def test_json_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("[1]")
    with pytest.raises(DataError, match="key `format` must be 'receptance-tokens', got None"):
        read_manifest(tmp_path)


def test_where_there_is_no_store_the_command_that_makes_one_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"the folder has no store\.json; make one with: receptance"
    ):
        read_manifest(tmp_path)
    with pytest.raises(DataError, match=r"'.*absent': the folder does not exist; make one with"):
        read_manifest(tmp_path / "absent")


def test_a_file_is_no_store_and_is_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    with pytest.raises(DataError, match=r"no token store at '.*text': it is a file; make one"):
        read_manifest(tmp_path / "text")


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="must be JSON, but is not"):
        read_manifest(tmp_path)
