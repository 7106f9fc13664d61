"""The name of a set of weights."""

import re

import pytest
import torch

from receptance.models import RWKV4Config
from receptance.models.fingerprint import fingerprint, weight_digest
from tests.random_models import random_rwkv4

CONFIG = RWKV4Config(n_layer=1, n_embd=2, vocab_size=3)


def weights() -> dict[str, torch.Tensor]:
    return {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0], [4.0]])}


def test_it_is_a_sha256_in_hexadecimal():
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint(CONFIG, weights()))


def test_it_is_the_same_on_every_machine_and_for_ever():
    """A saved state would be refused by its own model if this changed."""
    assert fingerprint(CONFIG, weights()) == (
        "3086833cb34184af43bb9d56200cc70ba790829ba99465f548415da3eb2be16e"
    )


def test_the_order_of_the_weights_does_not_matter():
    backwards = dict(reversed(weights().items()))
    assert fingerprint(CONFIG, backwards) == fingerprint(CONFIG, weights())


def test_nor_does_the_memory_layout():
    turned = {**weights(), "b": torch.tensor([[3.0, 9.0], [4.0, 9.0]])[:, :1]}
    assert not turned["b"].is_contiguous()
    assert fingerprint(CONFIG, turned) == fingerprint(CONFIG, weights())


@pytest.mark.parametrize(
    "change",
    [
        {"a": torch.tensor([1.0, 2.1])},
        {"a": torch.tensor([2.0, 1.0])},
        {"c": torch.tensor([1.0])},
    ],
)
def test_any_change_of_a_weight_changes_it(change):
    assert fingerprint(CONFIG, weights() | change) != fingerprint(CONFIG, weights())


def test_swapped_weights_change_it():
    swapped = {"a": weights()["b"], "b": weights()["a"]}
    assert fingerprint(CONFIG, swapped) != fingerprint(CONFIG, weights())


def test_another_shape_of_model_changes_it():
    other = RWKV4Config(n_layer=1, n_embd=2, vocab_size=4)
    assert fingerprint(other, weights()) != fingerprint(CONFIG, weights())


def test_a_model_has_one_fingerprint_in_every_precision():
    model = random_rwkv4(2, 8, 11)
    expected = model.fingerprint()
    assert random_rwkv4(2, 8, 11).fingerprint() == expected
    assert random_rwkv4(2, 8, 11, seed=1).fingerprint() != expected
    assert model.to(torch.bfloat16).fingerprint() == expected
    assert random_rwkv4(2, 8, 11, dtype=torch.float64).fingerprint() == expected


def test_bytes_are_hashed_as_they_are():
    packed = {"weight": torch.arange(256, dtype=torch.uint8)}
    expected = fingerprint(CONFIG, packed)
    packed["weight"] = packed["weight"].clone()
    assert fingerprint(CONFIG, packed) == expected
    packed["weight"][7] += 1
    assert fingerprint(CONFIG, packed) != expected
    assert fingerprint(CONFIG, {"weight": torch.arange(256.0)}) != expected


def test_digests_of_the_source_count_for_float16_alone():
    expected = fingerprint(CONFIG, weights())
    sources = {"b": weight_digest(weights()["b"])}
    rounded = weights() | {"b": torch.tensor([[3.0625], [4.0]]).half()}
    assert fingerprint(CONFIG, rounded, sources) == expected
    assert fingerprint(CONFIG, rounded) != expected
    assert fingerprint(CONFIG, {**rounded, "b": rounded["b"].float()}, sources) != expected
