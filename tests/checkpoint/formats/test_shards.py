"""Weights in parts become whole, or say why they do not."""

import json

import pytest
import torch
from safetensors.torch import save_file

from receptance.checkpoint import load_checkpoint
from receptance.checkpoint.formats.shards import read_shards
from receptance.errors import CheckpointError
from tests.random_models import random_rwkv4


def write(path, **parts):
    offsets = {name: {"saved_offsets": begin} for name, (begin, _) in parts.items()}
    tensors = {name: part.contiguous() for name, (_, part) in parts.items()}
    save_file(tensors, path, {"DCP_SHARDING_INFO": json.dumps(offsets)})
    return path


def test_parts_along_any_axis_make_the_whole(tmp_path):
    x, y, z = torch.randn(5, 4), torch.randn(1, 1, 6), torch.randn(3)
    first = write(tmp_path / "1", x=([0, 0], x[:3]), y=([0, 0, 0], y[..., :3]), z=([0], z))
    second = write(tmp_path / "2", x=([3, 0], x[3:]), y=([0, 0, 3], y[..., 3:]), z=([3], z[3:]))
    found = read_shards([second, first])
    assert list(found) == ["x", "y", "z"]
    assert all(torch.equal(found[name], each) for name, each in {"x": x, "y": y, "z": z}.items())


def test_a_model_folder_may_hold_parts(tmp_path):
    model = random_rwkv4(n_layer=1, n_embd=4, vocab_size=6)
    weights = model.state_dict()
    config = {"format": "receptance", "format_version": 1, "architecture": "rwkv4", "n_layer": 1}
    config |= {"n_embd": 4, "vocab_size": 6, "quantization": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for rank in range(2):
        chunks = {name: each.chunk(2, -1)[rank] for name, each in weights.items()}
        begins = {name: [0] * (each.ndim - 1) + [2 * rank] for name, each in weights.items()}
        wide = next(name for name in weights if name.endswith("ffn.value.weight"))
        begins[wide] = [0, 8 * rank]
        parts = {name: (begins[name], chunks[name]) for name in weights}
        write(tmp_path / f"shard-0000{rank + 1}-model-00001-of-00001.safetensors", **parts)
    loaded = load_checkpoint(tmp_path).model.state_dict()
    assert all(torch.equal(loaded[name], each) for name, each in weights.items())


@pytest.mark.parametrize(
    ("begins", "message"),
    [
        ([[0], [3]], r"the parts of 'x' must make a tensor of the shape \[5\]"),
        ([[0], [10**15]], "the parts of 'x' must make a tensor of the shape"),
        ([[0], [0]], "is a shard missing"),
        ([[0], [-2]], "begins at"),
        ([[0], [2, 0]], "begins at"),
        ([[0], ["2"]], "begins at"),
        ([[0], [True]], "begins at"),
    ],
)
def test_parts_that_make_no_whole_are_refused(tmp_path, begins, message):
    paths = [
        write(tmp_path / str(index), x=(begin, torch.ones(2))) for index, begin in enumerate(begins)
    ]
    with pytest.raises(CheckpointError, match=message):
        read_shards(paths)


def test_parts_that_overlap_are_refused(tmp_path):
    places = {"1": ([0], 3), "2": ([2], 2), "3": ([5], 1)}
    paths = [
        write(tmp_path / name, x=(begin, torch.ones(size)))
        for name, (begin, size) in places.items()
    ]
    with pytest.raises(CheckpointError, match="the parts of 'x' must not overlap"):
        read_shards(paths)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100])
def test_what_is_no_shard_is_refused(tmp_path, content):
    path = tmp_path / "shard-00001.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="must be a safetensors file that says where"):
        read_shards([path])


def test_a_file_that_says_nothing_of_its_parts_is_refused(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="DCP_SHARDING_INFO"):
        read_shards([tmp_path / "a"])


@pytest.mark.parametrize("other", [torch.zeros(2, 2), torch.zeros(4, dtype=torch.bfloat16)])
def test_parts_of_two_kinds_are_refused(tmp_path, other):
    first = write(tmp_path / "1", x=([0], torch.zeros(4)))
    second = write(tmp_path / "2", x=([4] * other.ndim, other))

    with pytest.raises(CheckpointError, match="the parts of 'x' must be of one kind"):
        read_shards([first, second])
