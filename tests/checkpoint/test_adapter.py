"""An adapter is merged into the model that it names, and into no other."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from receptance.checkpoint import (
    Adapter,
    convert_model,
    load_checkpoint,
    merge_adapter,
    read_adapter,
    read_adapter_of,
    save_model,
)
from receptance.errors import CheckpointError
from receptance.tensor_file import write_tensors
from tests.random_models import random_rwkv4

LAYER = "blocks.0.ffn.value"


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def model(dtype):
    return random_rwkv4(2, 32, 64, dtype=dtype)


@pytest.fixture
def folder(model, tmp_path: Path) -> Path:
    save_model(model, None, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def adapter(model) -> Adapter:
    tensors = {f"{LAYER}.lora_a": torch.randn(3, 128), f"{LAYER}.lora_b": torch.randn(32, 3)}
    return Adapter("rwkv4", model.fingerprint(), 3, 6.0, tensors)


@pytest.fixture
def file(adapter, tmp_path: Path) -> Path:
    adapter.save(tmp_path / "adapter.safetensors")
    return tmp_path / "adapter.safetensors"


def test_it_comes_back_as_it_was_and_says_what_it_is_of(adapter, file):
    again = read_adapter(file)

    assert replace(again, tensors={}) == replace(adapter, tensors={})
    for name, tensor in adapter.tensors.items():
        assert torch.equal(again.tensors[name], tensor)
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == {
            "format": "receptance-lora",
            "format_version": "1",
            "architecture": "rwkv4",
            "model": adapter.base,
            "rank": "3",
            "alpha": "6.0",
            "targets": "ffn.value",
        }


def test_it_is_merged_in_the_dtype_of_the_model_and_nothing_else_changes(
    model, adapter, folder, file, dtype
):
    weights = load_checkpoint(folder, adapter=file).model.state_dict()

    for name, before in model.state_dict().items():
        expected = before
        if name == f"{LAYER}.weight":
            a, b = adapter.tensors[f"{LAYER}.lora_a"], adapter.tensors[f"{LAYER}.lora_b"]
            expected = (before.double() + 2.0 * b.double() @ a.double()).to(dtype)
        tolerance = 1e-6 if dtype == torch.float32 else 1e-2
        found = weights[name].to(dtype)
        assert weights[name].dtype == (dtype if weights[name].ndim == 2 else torch.float32)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=1e-5)
        assert torch.equal(found, before) == (name != f"{LAYER}.weight")


@pytest.mark.parametrize("to", ["native", "official"])
def test_what_is_exported_is_what_is_loaded(folder, file, tmp_path, to):
    destination = tmp_path / ("merged" if to == "native" else "merged.pth")

    convert_model(folder, destination, to=to, adapter=file)

    expected = load_checkpoint(folder, adapter=file).model.state_dict()
    for name, weight in load_checkpoint(destination).model.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_what_is_merged_may_be_rounded(folder, file):
    merged = load_checkpoint(folder, adapter=file, quantize="int8").model
    plain = load_checkpoint(folder, quantize="int8").model

    changed = [
        name
        for name, weight in merged.state_dict().items()
        if not torch.equal(weight, plain.state_dict()[name])
    ]
    assert changed == [f"{LAYER}.weight"]


def test_another_model_refuses_it(file, tmp_path):
    torch.manual_seed(99)
    other = random_rwkv4(2, 32, 64)
    with torch.no_grad():
        other.head.weight.add_(1)
    save_model(other, None, tmp_path / "other")

    with pytest.raises(CheckpointError, match=r"must be an adapter of this model, rwkv4 with the"):
        load_checkpoint(tmp_path / "other", adapter=file)


def test_nothing_is_merged_into_rounded_weights(folder, file, tmp_path):
    convert_model(folder, tmp_path / "rounded", quantize="int8")

    with pytest.raises(CheckpointError, match="must hold plain weights for the adapter"):
        convert_model(tmp_path / "rounded", tmp_path / "merged", adapter=file)
    checkpoint = load_checkpoint(tmp_path / "rounded", adapter=file)
    assert checkpoint.adapter == file
    expected = load_checkpoint(tmp_path / "rounded").model.state_dict()
    for name, weight in checkpoint.model.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    assert load_checkpoint(folder, adapter=file).adapter is None


def test_what_it_changes_is_what_is_merged(model, folder, file, dtype):
    read = read_adapter_of(file, model.config, model.fingerprint)
    changes = read.changes()

    ((layer, (a, b)),) = changes.layers.items()
    assert layer == LAYER
    before = model.get_submodule(LAYER).get_parameter("weight")
    after = load_checkpoint(folder, adapter=file).model.get_submodule(LAYER).get_parameter("weight")
    assert torch.equal((before.float() + b @ a).to(dtype), after)


def test_a_damaged_file_is_refused_before_a_weight_is_hashed(model, adapter, tmp_path):
    adapter.tensors[f"{LAYER}.lora_b"][0, 0] = float("nan")
    adapter.save(tmp_path / "bad")

    def hashed() -> str:
        raise AssertionError

    with pytest.raises(CheckpointError, match="must be finite"):
        read_adapter_of(tmp_path / "bad", model.config, hashed)


def test_an_initial_state_was_not_made_by_the_adapted_model(model, folder, file, tmp_path):
    save_model(model, None, tmp_path / "started", initial_state=model.zero_state(1))
    convert_model(folder, tmp_path / "rounded", quantize="int8")
    model.zero_state(1).save(tmp_path / "rounded" / "initial_state.safetensors", "0" * 64)

    for started in ("started", "rounded"):
        with pytest.raises(CheckpointError, match="and the adapted one is another; move that file"):
            load_checkpoint(tmp_path / started, adapter=file)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rank": 2}, r"must have the shape \[2, 128\], but it has \[3, 128\]"),
        ({"rank": 0}, "a rank of at least 1"),
        ({"alpha": float("inf")}, "a finite alpha"),
        ({"tensors": {"blocks.0.ln1.lora_a": 32, "blocks.0.ln1.lora_b": 32}}, "which is no matrix"),
        ({"tensors": {"blocks.0.att.key.lora_a": 32}}, "'lora_a' and 'lora_b' for each layer"),
    ],
)
def test_what_does_not_fit_is_refused(adapter, folder, tmp_path, changed, words):
    if "tensors" in changed:
        sizes = changed["tensors"].items()
        changed = {"tensors": {name: torch.zeros(3, size) for name, size in sizes}}
    replace(adapter, **changed).save(tmp_path / "bad")

    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(folder, adapter=tmp_path / "bad")


def test_the_embedding_multiplies_nothing_and_takes_no_change(model, folder, tmp_path):
    header = {"format": "receptance-lora", "format_version": "1", "architecture": "rwkv4"}
    header |= {"model": model.fingerprint(), "rank": "1", "alpha": "1.0"}
    tensors = {"emb.lora_a": torch.zeros(1, 32), "emb.lora_b": torch.zeros(64, 1)}
    write_tensors(tmp_path / "bad", tensors, header)

    with pytest.raises(CheckpointError, match="'emb', which is no matrix of a layer"):
        load_checkpoint(folder, adapter=tmp_path / "bad")


def test_numbers_that_are_not_finite_are_refused(adapter, tmp_path):
    adapter.tensors[f"{LAYER}.lora_b"][0, 0] = float("nan")
    adapter.save(tmp_path / "bad")

    with pytest.raises(CheckpointError, match=r"'blocks.0.ffn.value.lora_b' .* must be finite"):
        read_adapter(tmp_path / "bad")


def test_a_file_of_something_else_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"no adapter at '.*gone'"):
        read_adapter(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="must be an adapter, with format 'receptance-lora'"):
        read_adapter(folder / "model.safetensors")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(CheckpointError, match="must be a safetensors file"):
        read_adapter(tmp_path / "text")
    header = {"format": "receptance-lora", "format_version": "1", "rank": "many"}
    write_tensors(tmp_path / "bad", {"a": torch.zeros(1)}, header)
    with pytest.raises(CheckpointError, match="must say its rank, alpha, architecture and model"):
        read_adapter(tmp_path / "bad")


def test_adding_is_rounded_once():
    weight = torch.tensor([[1.0]], dtype=torch.bfloat16)
    a, b = torch.tensor([[1.0]]), torch.tensor([[2.0**-9]])

    assert merge_adapter(weight, a, b, 1.0).item() == 1.0
    assert merge_adapter(weight, a, b, 4.0).item() == 1.0 + 2**-7
