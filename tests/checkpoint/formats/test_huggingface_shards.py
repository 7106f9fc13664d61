"""The weights of a folder are found, are what their index says, and are cut where too large."""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from receptance.checkpoint.formats.huggingface_shards import (
    find_weights,
    open_weights,
    write_json,
    write_weights,
)
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry

INDEX = "model.safetensors.index.json"
TENSORS = {f"t{i}": torch.full((10,), float(i)) for i in range(5)}  # 40 bytes each
ENTRIES = {name: Entry.of(tensor) for name, tensor in TENSORS.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards and their index."""
    write_weights(tmp_path, ENTRIES, 80)
    return tmp_path


def index_changed(folder: Path, **weight_map: object) -> Path:
    path = folder / INDEX
    entries = json.loads(path.read_text())
    entries["weight_map"] |= weight_map
    write_json(path, entries)
    return folder


def reopened(folder: Path) -> dict[str, Entry]:
    return open_weights(find_weights(folder), read_only=True)


@pytest.mark.parametrize(
    ("max_bytes", "per_file"),
    [(200, [5]), (199, [4, 1]), (80, [2, 2, 1]), (79, [1] * 5), (1, [1] * 5)],
)
def test_tensors_are_cut_into_files_in_their_order(tmp_path, max_bytes, per_file):
    write_weights(tmp_path, ENTRIES, max_bytes)

    files = find_weights(tmp_path)
    found = [open_weights(files, read_only=read_only) for read_only in (True, False)]

    assert [len(names or ENTRIES) for names in files.shards.values()] == per_file
    for entries in found:
        assert [*entries] == [*TENSORS]
        assert all(torch.equal(entries[name].read(), each) for name, each in TENSORS.items())


def test_the_index_says_what_transformers_reads(folder):
    index = json.loads((folder / INDEX).read_text())

    assert index["metadata"] == {"total_size": 200}
    assert index["weight_map"]["t4"] == "model-00003-of-00003.safetensors"
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
        INDEX,
    ]


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    read_before: list[weakref.ref[np.ndarray]] = []

    def read() -> torch.Tensor:
        assert not any(each() is not None for each in read_before)
        numbers = np.zeros(10, np.float32)
        read_before.append(weakref.ref(numbers))
        return torch.from_numpy(numbers)

    write_weights(tmp_path, {n: Entry(torch.float32, (10,), read) for n in TENSORS}, 80)

    assert len(read_before) == len(TENSORS)


def test_safetensors_are_read_before_anything_older(folder):
    torch.save({"other": torch.zeros(1)}, folder / "pytorch_model.bin")

    assert reopened(folder).keys() == TENSORS.keys()

    write_weights(folder, {"single": Entry.of(torch.zeros(1))}, 80)

    assert reopened(folder).keys() == {"single"}


def test_a_shard_may_be_a_link_as_in_the_cache_of_the_hub(folder, tmp_path_factory):
    blob = tmp_path_factory.mktemp("blobs") / "0123"
    shard = folder / "model-00002-of-00003.safetensors"
    shard.rename(blob)
    shard.symlink_to(blob)

    assert reopened(folder).keys() == TENSORS.keys()


def test_to_write_to_an_opened_tensor_leaves_the_file_and_other_openings(folder):
    files = find_weights(folder)
    first, second = (open_weights(files, read_only=False) for _ in range(2))

    first["t1"].read().fill_(7)

    assert torch.equal(second["t1"].read(), TENSORS["t1"])
    assert torch.equal(reopened(folder)["t1"].read(), TENSORS["t1"])


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
    write_json(tmp_path / "config.json", {})

    with pytest.raises(CheckpointError, match=r"holds \['config.json'\]; was it downloaded whole"):
        find_weights(tmp_path)


def test_missing_shards_are_named(folder):
    (folder / "model-00001-of-00003.safetensors").unlink()
    (folder / "model-00003-of-00003.safetensors").unlink()

    with pytest.raises(CheckpointError) as raised:
        find_weights(folder)

    assert "'model-00001-of-00003.safetensors', 'model-00003-of-00003.safetensors'" in str(
        raised.value
    )
    assert "00002" not in str(raised.value)


@pytest.mark.parametrize(
    "shard",
    [
        "../other.safetensors",
        "/etc/passwd",
        "a/b.bin",
        "..",
        ".",
        "",
        "C:x",
        "a\\b",
        "漢" * 200,
        3,
        None,
    ],
)
def test_a_shard_outside_of_the_folder_is_refused(folder, shard):
    with pytest.raises(CheckpointError, match="must be in a file of this folder") as raised:
        find_weights(index_changed(folder, t0=shard))

    assert repr(str(folder / INDEX)) in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t0": "model-00002-of-00003.safetensors"}, "not in the index ['t0']"),
        ({"t9": "model-00002-of-00003.safetensors"}, "missing ['t9']"),
    ],
)
def test_an_index_that_does_not_tell_what_is_there_is_refused(folder, change, words):
    with pytest.raises(CheckpointError) as raised:
        reopened(index_changed(folder, **change))

    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be JSON"),
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("\x00", "must be JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "`weight_map` in .* must name the file of each tensor, but it is None"),
        ('{"weight_map": []}', "must name the file of each tensor"),
        ('{"weight_map": {}}', "must name the file of each tensor"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "'a' must come once, but it comes twice"),
        ('{"weight_map": {"a": "\\ud800"}}', "are missing"),
        ('{"weight_map": {"a": ' + "9" * 5000 + "}}", "must be JSON"),
    ],
)
def test_an_index_that_is_none_is_refused(folder, text, words):
    (folder / INDEX).write_text(text)

    with pytest.raises(CheckpointError, match=words):
        find_weights(folder)


@pytest.mark.parametrize("kept", [0, 7, 60, -1])
@pytest.mark.parametrize("name", ["model-00002-of-00003.safetensors", "pytorch_model.bin"])
def test_a_file_cut_short_is_named(folder, name, kept):
    if name.endswith(".bin"):
        (folder / INDEX).unlink()
        torch.save(TENSORS, folder / name)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:kept])

    with pytest.raises(CheckpointError, match=name):
        reopened(folder)


def test_a_bin_with_more_than_tensors_is_refused(tmp_path):
    torch.save({**TENSORS, "step": 12}, tmp_path / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"'step' in .* must be a tensor, but it is 12"):
        reopened(tmp_path)
