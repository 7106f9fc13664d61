"""What lies at a path computes as what was saved there, or is refused."""

import pytest
import torch

from receptance.checkpoint import load_checkpoint, save_model
from receptance.errors import CheckpointError, MemoryShortageError, StateError
from receptance.inference import LanguageModel, load, loading
from receptance.quantization import quantize_model
from tests.random_models import random_adapter
from tests.tolerances import BFLOAT16_LOGITS

TOKENS = [5, 200, 17, 0, 33, 64, 64, 1]


def test_load_opens_what_was_saved(lm, tmp_path):
    save_model(lm.model, lm.tokenizer, tmp_path / "model")

    loaded = load(tmp_path / "model")

    assert loaded.path == tmp_path / "model"
    assert loaded.tokenizer.name == "bytes"
    assert torch.equal(loaded.forward(TOKENS)[0], lm.forward(TOKENS)[0])
    assert repr(loaded).startswith("LanguageModel(RWKV4Config(n_layer=2, n_embd=16")


def test_load_in_bfloat16_computes_with_bfloat16_matrices(lm, tmp_path):
    save_model(lm.model, lm.tokenizer, tmp_path / "model")

    loaded = load(tmp_path / "model", dtype="bfloat16")
    logits, state = loaded.forward(TOKENS)

    assert loaded.model.head.weight.dtype == torch.bfloat16
    assert loaded.fingerprint == lm.fingerprint
    assert logits.dtype == torch.float32
    assert {tensor.dtype for tensor in state.tensors.values()} == {torch.float32}
    assert torch.corrcoef(torch.stack([logits, lm.forward(TOKENS)[0]]))[0, 1] > 0.99


def test_float16_is_kept_for_a_gpu_and_becomes_float32_on_the_cpu(lm, tmp_path, caplog):
    save_model(lm.model, lm.tokenizer, tmp_path / "model")

    with caplog.at_level("INFO"):
        loaded = load(tmp_path / "model", dtype="float16")
    kept = load_checkpoint(tmp_path / "model", dtype="float16", device="cuda:1").model

    assert "float16 is for GPUs" in caplog.text
    assert torch.equal(loaded.forward(TOKENS)[0], lm.forward(TOKENS)[0])
    assert kept.head.weight.dtype == torch.float16
    assert kept.ln_out.weight.dtype == torch.float32


def test_a_states_numbers_are_of_the_checkpoint_in_whatever_precision(lm, tmp_path):
    save_model(lm.model, lm.tokenizer, tmp_path / "model")
    precisions = ("float32", "bfloat16", "float16")
    models = {
        # What `load` does for a GPU, but that it is not moved there.
        each: LanguageModel(
            load_checkpoint(tmp_path / "model", dtype=each, device="cuda").model, lm.tokenizer
        )
        for each in precisions
    }
    expected, _ = lm.forward(TOKENS)
    for name, one in models.items():
        one.prefill(TOKENS[:-1]).save(tmp_path / name)
        for other in models.values():
            logits, _ = other.forward(TOKENS[-1:], other.load_state(tmp_path / name))
            distance = (logits - expected).square().mean() / expected.square().mean()
            assert distance.sqrt() < BFLOAT16_LOGITS


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_on_a_gpu_continues_the_state_of_one_on_the_cpu(lm, tmp_path, dtype):
    save_model(lm.model, lm.tokenizer, tmp_path / "model")
    lm.prefill(TOKENS[:-1]).save(tmp_path / "state")
    there = load(tmp_path / "model", dtype=dtype, device="cuda")
    logits, _ = there.forward(TOKENS[-1:], there.load_state(tmp_path / "state"))
    expected, _ = lm.forward(TOKENS)
    distance = (logits.cpu() - expected).square().mean() / expected.square().mean()
    assert distance.sqrt() < BFLOAT16_LOGITS


def test_the_initial_state_of_a_folder_is_where_the_model_starts(lm, tmp_path):
    folder = tmp_path / "model"
    save_model(lm.model, lm.tokenizer, folder)
    state = lm.prefill("Once upon a time")
    state.save(folder / "initial_state.safetensors")

    loaded = load(folder)

    assert torch.equal(loaded.forward([1])[0], lm.forward([1], state)[0])
    assert torch.equal(loaded.forward([1], loaded.zero_state())[0], lm.forward([1])[0])
    for name, tensor in loaded.prefill("").tensors.items():
        assert torch.equal(tensor, lm.prefill([0], state).tensors[name]), name


def test_an_initial_state_of_another_model_is_refused(lm, tmp_path):
    folder = tmp_path / "model"
    save_model(lm.model, lm.tokenizer, folder)
    lm.model.zero_state(1).save(folder / "initial_state.safetensors", "0" * 64)

    with pytest.raises(StateError, match="initial_state"):
        load(folder)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_rounded_model_has_its_adapter_beside_it(lm, tmp_path, precision):
    save_model(quantize_model(lm.model, precision), lm.tokenizer, tmp_path / "rounded")
    plain = load(tmp_path / "rounded")
    file = tmp_path / "adapter.safetensors"
    random_adapter(lm.model, base=plain.fingerprint).save(file)

    loaded = load(tmp_path / "rounded", adapter=file)

    expected = plain.with_adapter(plain.load_adapter(file))
    assert torch.equal(loaded.forward(TOKENS)[0], expected.forward(TOKENS)[0])
    assert not torch.equal(loaded.forward(TOKENS)[0], plain.forward(TOKENS)[0])
    assert loaded.fingerprint == expected.fingerprint


def test_a_rounded_model_refuses_the_adapter_of_another(lm, tmp_path):
    save_model(quantize_model(lm.model, "int8"), lm.tokenizer, tmp_path / "rounded")
    random_adapter(lm.model).save(tmp_path / "adapter.safetensors")

    with pytest.raises(CheckpointError, match="must be an adapter of this model, rwkv4 with the"):
        load(tmp_path / "rounded", adapter=tmp_path / "adapter.safetensors")


def test_a_model_that_is_loaded_for_a_gpu_rounds_no_part_of_a_sum(
    tmp_path, monkeypatch, parts_may_be_rounded
):
    monkeypatch.setattr(loading, "device_of", torch.device)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load(tmp_path / "nothing", device="cuda")
    assert not parts_may_be_rounded()


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="`device` must be 'auto' or one such as 'cpu' or 'cuda'"):
        load(tmp_path, device="gpu!")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, r"load it in bfloat16 \(dtype='bfloat16', .*\), or rounded to 8 bits .* or 4 bits"),
        ({"dtype": "bfloat16"}, "load it rounded to 8 bits"),
        ({"quantize": "int8"}, "load it rounded to 4 bits"),
        ({"quantize": "int4"}, "take a smaller model"),
    ],
)
def test_a_model_that_does_not_fit_says_how_it_would_take_less(monkeypatch, options, remedy):
    monkeypatch.setattr(loading, "load_checkpoint", lambda *_, **__: torch.empty(2**50))
    wanted = rf"^loading 'model' must have another 4,503,599.627 GB of memory on cpu, .*; {remedy}"
    with pytest.raises(MemoryShortageError, match=wanted):
        load("model", **options)
