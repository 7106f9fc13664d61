"""No weights enter a model unless every one of them fits."""

import copy
from pathlib import Path

import pytest
import torch

from receptance.checkpoint.schema import check_weights, model_from_weights, shorten
from receptance.errors import CheckpointError
from receptance.tensor_file import Entry

PATH = Path("somewhere/model.safetensors")


def entries(weights):
    return {name: Entry.of(weight) for name, weight in weights.items()}


def test_weights_in_the_right_dtype_are_not_copied(model):
    weights = model.state_dict()

    filled = model_from_weights(PATH, model.config, entries(weights), None)

    assert filled.emb.weight.data_ptr() == weights["emb.weight"].data_ptr()
    assert all(torch.equal(filled.state_dict()[name], weights[name]) for name in weights)


def test_only_matrices_take_the_wanted_dtype(model):
    filled = model_from_weights(PATH, model.config, entries(model.state_dict()), torch.bfloat16)

    for name, weight in filled.state_dict().items():
        assert weight.dtype == (torch.bfloat16 if weight.ndim == 2 else torch.float32), name


def test_float16_becomes_float32_and_that_is_said(model, caplog):
    halves = {name: weight.half() for name, weight in model.state_dict().items()}

    with caplog.at_level("INFO"):
        filled = model_from_weights(PATH, model.config, entries(halves), None)

    assert {weight.dtype for weight in filled.state_dict().values()} == {torch.float32}
    assert torch.equal(filled.head.weight, halves["head.weight"].float())
    assert "stored in float16" in caplog.text


def test_float16_that_is_wanted_is_for_gpus(model, caplog):
    stored = entries(model.state_dict())

    with caplog.at_level("INFO"):
        on_cpu = model_from_weights(PATH, model.config, stored, torch.float16)
    assert {weight.dtype for weight in on_cpu.state_dict().values()} == {torch.float32}
    assert "float16 is for GPUs; the matrices of" in caplog.text

    caplog.clear()
    with caplog.at_level("INFO"):
        kept = model_from_weights(PATH, model.config, stored, torch.float16, keeps_half=True)
    for weight in kept.state_dict().values():
        assert weight.dtype == (torch.float16 if weight.ndim == 2 else torch.float32)
    assert not caplog.text


@pytest.mark.parametrize("stored_as", [torch.float32, torch.bfloat16, torch.float16])
def test_a_checkpoint_has_one_fingerprint_in_float16_too(model, stored_as):
    stored = entries({name: each.to(stored_as) for name, each in model.state_dict().items()})
    wide = model_from_weights(PATH, model.config, stored, torch.float32)
    half = model_from_weights(PATH, model.config, stored, torch.float16, keeps_half=True)
    as_stored = model_from_weights(PATH, model.config, stored, None, keeps_half=True)
    assert half.head.weight.dtype == torch.float16
    assert as_stored.head.weight.dtype == stored_as
    assert half.fingerprint() == as_stored.fingerprint() == wide.fingerprint()
    assert copy.deepcopy(half).fingerprint() == wide.fingerprint()


def test_numbers_that_float16_lacks_are_refused(model):
    weights = {**model.state_dict(), "head.weight": torch.full_like(model.head.weight, 7e4)}
    with pytest.raises(CheckpointError, match=r"within ±65504 to be in float16.*take float32"):
        model_from_weights(PATH, model.config, entries(weights), torch.float16, keeps_half=True)
    assert model_from_weights(PATH, model.config, entries(weights), torch.float16) is not None


def test_a_filled_model_can_be_trained(model):
    filled = model_from_weights(PATH, model.config, entries(model.state_dict()), None)

    filled(torch.tensor([[1, 2, 3]]))[0].sum().backward()

    assert all(parameter.grad is not None for parameter in filled.parameters())


def test_a_missing_tensor_and_an_unknown_one_are_both_named(model):
    weights = model.state_dict()
    weights["blocks.1.att.gate"] = weights.pop("blocks.1.att.key.weight")

    with pytest.raises(CheckpointError) as raised:
        check_weights(PATH, model, weights)

    assert str(raised.value) == (
        f"{str(PATH)!r} must hold exactly the 42 tensors of this model: "
        "missing ['blocks.1.att.key.weight'], unknown ['blocks.1.att.gate']"
    )


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.zeros(8, 9), "must have the shape [8, 8], but it has [8, 9]"),
        (torch.zeros(8, 8, dtype=torch.float64), "but it is torch.float64"),
        (torch.zeros(8, 8, dtype=torch.int8), "but it is torch.int8"),
        (torch.full((8, 8), torch.nan), "must be finite"),
        (torch.eye(8) * torch.inf, "must be finite"),
        (torch.full((8, 8), -torch.inf, dtype=torch.bfloat16), "must be finite"),
    ],
)
def test_a_tensor_that_cannot_be_right_is_refused_by_name(model, weight, words):
    weights = {**model.state_dict(), "blocks.1.att.key.weight": weight}

    with pytest.raises(CheckpointError) as raised:
        check_weights(PATH, model, weights)

    assert f"'blocks.1.att.key.weight' in {str(PATH)!r}" in str(raised.value)
    assert words in str(raised.value)


def test_more_layers_than_tensors_are_refused_before_anything_is_built(model):
    config = type(model.config)(n_layer=10**12, n_embd=8, vocab_size=256)

    with pytest.raises(
        CheckpointError, match="1000000000000 layers of 8 channels, but it holds only 42"
    ):
        model_from_weights(PATH, config, entries(model.state_dict()), None)


def test_a_long_list_of_names_is_cut():
    assert shorten(["a", "b"]) == "['a', 'b']"
    assert shorten(list("abcdefghi")) == "['a', 'b', 'c', 'd', 'e', 'f', … 3 more]"


def test_a_lie_about_a_size_is_refused_before_anything_is_built(model):
    config = type(model.config)(n_layer=2, n_embd=10**17, vocab_size=256)
    weights = model.state_dict()

    with pytest.raises(CheckpointError, match=r"'emb.weight' .* must have the shape \[256, 1000"):
        model_from_weights(PATH, config, entries(weights), None)
    del weights["emb.weight"]
    with pytest.raises(CheckpointError, match=r"must hold 'emb.weight', but it holds"):
        model_from_weights(PATH, config, entries(weights), None)
