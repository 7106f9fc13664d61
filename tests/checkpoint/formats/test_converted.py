"""A file that the `rwkv` package has converted is the model that it was converted from."""

import shutil

import pytest
import torch

from receptance.checkpoint import load_checkpoint
from receptance.errors import CheckpointError
from tests.oracles import AuthorsOracle, convert_with_rwkv
from tests.random_models import random_rwkv4

TOKENS = torch.tensor([[5, 0, 31, 17, 8, 8, 2]])


@pytest.fixture(scope="module")
def model():
    return random_rwkv4(n_layer=7, n_embd=32, vocab_size=40)


@pytest.fixture(scope="module")
def converted_once(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    return convert_with_rwkv(model, folder / "converted.pth", "cpu fp32")


@pytest.fixture
def converted(converted_once, tmp_path):
    return shutil.copy(converted_once, tmp_path)


def test_it_gives_the_logits_of_the_original(model, converted):
    loaded = load_checkpoint(converted).model

    assert loaded.config.ln0 is False
    # The norm was computed by PyTorch, and a decay went through a logarithm and back.
    torch.testing.assert_close(loaded(TOKENS)[0], model(TOKENS)[0], rtol=0, atol=1e-4)
    logits, _ = AuthorsOracle(model)(TOKENS)
    torch.testing.assert_close(loaded(TOKENS)[0][0], logits, rtol=0, atol=1e-4)


def test_all_matrices_but_the_embedding_are_the_original_ones(model, converted):
    found = load_checkpoint(converted).model.state_dict()

    expected = model.state_dict()
    for name, weight in found.items():
        if name == "emb.weight":
            continue
        tolerance = 1e-6 if name.endswith("time_decay") else 0.0
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=tolerance)


def test_matrices_that_were_halved_for_float16_are_doubled_again(model, tmp_path):
    path = convert_with_rwkv(model, tmp_path / "half.pth", "cpu fp16")
    raw = torch.load(path, weights_only=True)
    assert raw["_rescale_layer"] == 6

    found = load_checkpoint(path).model.state_dict()

    for name in ("blocks.6.att.output.weight", "blocks.6.ffn.value.weight"):
        assert raw[name].dtype == torch.float16
        assert torch.equal(found[name], raw[name].T.float() * 2)
    assert torch.equal(
        found["blocks.5.att.output.weight"], raw["blocks.5.att.output.weight"].T.float()
    )


def test_what_was_rounded_to_8_bits_is_refused(model, tmp_path):
    path = convert_with_rwkv(model, tmp_path / "int8.pth", "cpu fp32i8")

    with pytest.raises(CheckpointError, match="it was converted to 8 bits by the `rwkv` package"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_version": "0.9"}, "by the `rwkv` package's converter of version 0.7, but it was by"),
        ({"_rescale_layer": 6.0}, "must hold \\['_strategy', '_version', '_rescale_layer'\\]"),
        ({"_more": 1}, "must hold \\['_strategy', '_version', '_rescale_layer'\\]"),
        ({"blocks.0.att.time_decay": torch.ones(32)}, "must be stored as -exp"),
        ({"blocks.0.att.key.weight": torch.ones(32, 33)}, r"must have the shape \[32, 32\]"),
    ],
)
def test_a_converted_file_that_is_none_is_refused(converted, changes, words):
    torch.save({**torch.load(converted, weights_only=True), **changes}, converted)

    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(converted)
