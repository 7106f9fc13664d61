"""The model folder gives back what was put into it, or says what is wrong with it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from receptance.checkpoint import load_checkpoint, model_files, save_model
from receptance.errors import CheckpointError
from tests.random_models import random_rwkv4


def test_a_model_comes_back_as_it_was_saved(model, folder):
    loaded = load_checkpoint(folder)

    assert loaded.model.config == model.config
    assert loaded.format == "native"
    assert loaded.path == folder
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.name == "bytes"
    assert loaded.initial_state is None
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saving_what_was_loaded_writes_the_same_bytes(folder, tmp_path, dtype):
    first = load_checkpoint(folder, dtype=dtype)
    save_model(first.model, first.tokenizer, tmp_path / "second")
    second = load_checkpoint(tmp_path / "second")
    save_model(second.model, second.tokenizer, tmp_path / "third")

    for name in ("config.json", "model.safetensors"):
        written = (tmp_path / "third" / name).read_bytes()
        assert written == (tmp_path / "second" / name).read_bytes()
        assert dtype == "bfloat16" or written == (folder / name).read_bytes()
    assert second.model.head.weight.dtype == first.model.head.weight.dtype
    assert second.model.fingerprint() == first.model.fingerprint()


def test_a_model_gives_the_same_bits_before_and_after_it_was_saved(tmp_path):
    model = random_rwkv4(n_layer=2, n_embd=32, vocab_size=64)
    save_model(model, None, tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model").model
    tokens = torch.tensor([[5, 0, 20, 17]])

    assert all(weight.data_ptr() % 64 == 0 for weight in loaded.state_dict().values())
    assert torch.equal(loaded(tokens, last_only=True)[0], model(tokens, last_only=True)[0])


def test_the_weights_are_what_the_safetensors_library_reads(model, folder):
    read = load_file(folder / "model.safetensors")

    assert set(read) == set(model.state_dict())
    assert all(torch.equal(read[name], weight) for name, weight in model.state_dict().items())


def test_the_config_says_what_the_design_says(folder):
    assert json.loads((folder / "config.json").read_text()) == {
        "format": "receptance",
        "format_version": 1,
        "architecture": "rwkv4",
        "n_layer": 2,
        "n_embd": 8,
        "vocab_size": 256,
        "quantization": None,
    }


def test_a_folder_is_not_overwritten_unless_asked(model, folder):
    with pytest.raises(FileExistsError, match="must not exist yet"):
        save_model(model, None, folder)

    with torch.no_grad():
        model.ln_out.bias.fill_(7)
    save_model(model, None, folder, replace=True)

    assert torch.equal(load_checkpoint(folder).model.ln_out.bias, torch.full((8,), 7.0))


def test_a_model_that_diverged_is_not_saved(model, tmp_path):
    with torch.no_grad():
        model.ln_out.bias[3] = torch.nan

    with pytest.raises(CheckpointError, match=r"'ln_out.bias' in .* must be finite"):
        save_model(model, None, tmp_path / "model")

    assert list(tmp_path.iterdir()) == []


def test_the_file_is_not_changed_by_training_on_what_was_loaded(folder):
    before = (folder / "model.safetensors").read_bytes()
    loaded = load_checkpoint(folder).model

    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1)

    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "ggml"}, "`format` in {path} must be 'receptance', got 'ggml'"),
        ({"format_version": 2}, "`format_version` in {path} must be 1, got 2"),
        ({"format_version": None}, "`format_version` in {path} must be 1, got None"),
        ({"quantization": "int8"}, "must be null or have the entries ['bits', 'group_size', "),
        (
            {"quantization": {"bits": 8}},
            "`quantization` in {path} must be null or have the entries",
        ),
        (
            {"quantization": {"bits": 5, "group_size": 32, "has_offset": False}},
            "`quantization` in {path}: `bits` must be one of [4, 8], got 5",
        ),
        (
            {"quantization": {"bits": 4, "group_size": 32, "has_offset": False}},
            "'emb.weight' in {weights} must have the shape [256, 18], but it has [256, 8]",
        ),
        ({"architecture": "rwkv9"}, "{path}: `architecture` must be one of"),
        ({"n_layer": 0}, "{path}: `n_layer` must be a positive integer, got 0"),
        ({"n_head": 4}, "unknown ['n_head']"),
        ({"n_layer": 10**15}, "1000000000000000 layers"),
        ({"n_layer": 3}, "missing ['blocks.2.ln1.weight'"),
        ({"n_embd": 16}, "must have the shape [256, 16], but it has [256, 8]"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, words):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(folder)

    weights = str(folder / "model.safetensors")
    assert words.format(path=repr(str(path)), weights=repr(weights)) in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00"])
def test_a_config_that_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match=r"config\.json' must be"):
        load_checkpoint(folder)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 5_000, -1])
def test_weights_cut_short_are_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(CheckpointError, match=r"model\.safetensors' must be a whole safetensors"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"PK\x03\x04 not this", b"\xff" * 64, b"<html>" * 40])
def test_a_file_that_is_no_safetensors_is_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match="must be a whole safetensors file"):
        load_checkpoint(folder)


def test_a_folder_without_weights_lists_what_it_holds(folder):
    (folder / "model.safetensors").rename(folder / "wrong.safetensors")

    with pytest.raises(CheckpointError, match=r"holds \['config.json', 'wrong.safetensors'\]"):
        load_checkpoint(folder)


def test_the_files_of_a_model_are_those_of_its_folder(model, folder):
    parts = model_files(model.config, model.state_dict())

    assert {name: b"".join(each) for name, each in parts.items()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }
