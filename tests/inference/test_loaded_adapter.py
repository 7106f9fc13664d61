"""A model with an adapter beside it is the model with the adapter merged, on the same weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from receptance.checkpoint import save_model
from receptance.errors import CheckpointError, StateError
from receptance.inference import LanguageModel, LoadedAdapter, SamplingParams, load
from receptance.models import ColumnLinear, LowRank, LowRankChanges, State
from receptance.quantization import quantize_model
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_adapter, random_rwkv4
from tests.tolerances import FLOAT32_LOGITS

V = 256
PARAMS = SamplingParams(max_tokens=8, seed=3)
GREEDY = SamplingParams(max_tokens=8, temperature=0.0)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> None:
    """Save a model, and two adapters of it."""
    model = random_rwkv4(2, 32, V)
    save_model(model, load_tokenizer("bytes"), tmp_path / "model")
    for seed in (1, 2):
        random_adapter(model, seed=seed).save(tmp_path / f"{seed}.safetensors")


@pytest.fixture
def lm(tmp_path: Path) -> LanguageModel:
    return load(tmp_path / "model")


@pytest.fixture
def adapter(lm, tmp_path: Path) -> LoadedAdapter:
    return lm.load_adapter(tmp_path / "1.safetensors")


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT32_LOGITS)


def test_applied_is_merged_in_every_call(lm, adapter, tmp_path):
    merged, applied = load(tmp_path / "model", adapter=adapter.path), lm.with_adapter(adapter)

    logits, state = applied.forward([1, 2, 3])
    expected, expected_state = merged.forward([1, 2, 3])

    assert_close(logits, expected)
    assert (logits - lm.forward([1, 2, 3])[0]).abs().max() > 100 * FLOAT32_LOGITS
    assert_close(applied.forward([4], state)[0], merged.forward([4], expected_state)[0])
    assert_close(applied.forward([4], applied.prefill("ab"))[0], merged.forward(b"ab\4")[0])
    assert applied.score("ab", "cd") == pytest.approx(merged.score("ab", "cd"), abs=1e-4)
    found = applied.generate("ab", GREEDY)
    assert found.tokens == merged.generate("ab", GREEDY).tokens
    assert "".join(applied.stream("ab", GREEDY)) == found.text


def test_in_float32_the_logits_are_those_of_the_merged_model_to_a_hundred_thousandth(
    lm, adapter, tmp_path
):
    merged, _ = load(tmp_path / "model", adapter=adapter.path).forward([1, 2, 3, 4])

    found, _ = lm.with_adapter(adapter).forward([1, 2, 3, 4])

    # Of the largest logit, which is of order 10.
    assert (found - merged).abs().max() < 1e-5 * merged.abs().max()


def test_all_weights_are_shared_with_those_that_are_laid_out_to_decode(lm, adapter, tmp_path):
    other = lm.load_adapter(tmp_path / "2.safetensors")
    views = [lm.with_adapter(adapter), lm.with_adapter(other), lm.starting_from(lm.zero_state())]
    lm.generate("a", PARAMS)  # which lays out what was not

    def memory(each: LanguageModel) -> set[int]:
        tensors = [*each.model.parameters(), *each.model.buffers()]
        return {tensor.data_ptr() for tensor in tensors}

    value = lm.model.get_submodule("blocks.1.ffn.value")
    for view in views:
        view.generate("a", PARAMS)
        assert memory(view) == memory(lm)
        assert view.packed is lm.packed
    if isinstance(value, ColumnLinear):  # where the native step runs
        assert views[0].model.get_submodule("blocks.1.ffn.value.layer") is value


def test_the_weights_are_hashed_once_for_all_adapters_and_views(lm, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(lm.model, "fingerprint", None)

    other = lm.load_adapter(tmp_path / "2.safetensors")

    names = [lm.fingerprint, *(lm.with_adapter(each).fingerprint for each in (adapter, other))]
    assert len(set(names)) == 3
    assert lm.load_adapter(adapter.path).fingerprint == adapter.fingerprint
    assert lm.with_adapter(other).with_adapter(adapter).fingerprint == adapter.fingerprint


def test_the_model_itself_stays_what_it_was(lm, adapter, tmp_path):
    before = load(tmp_path / "model").generate("a", PARAMS)

    lm.with_adapter(adapter).generate("a", PARAMS)

    assert lm.generate("a", PARAMS).tokens == before.tokens
    assert torch.equal(lm.forward([1])[0], load(tmp_path / "model").forward([1])[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda lm: lm.prefill("ab"),
        lambda lm: lm.generate("ab", PARAMS).state,
        lambda lm: lm.zero_state(),
    ],
    ids=["prefill", "generate", "zero"],
)
def test_a_saved_state_is_of_the_adapter_that_made_it(
    lm, adapter, tmp_path, make: Callable[[LanguageModel], State]
):
    other = lm.load_adapter(tmp_path / "2.safetensors")
    models = [lm, lm.with_adapter(adapter), lm.with_adapter(other)]

    for maker in models:
        state = make(maker)
        state.save(tmp_path / "state.safetensors")
        for reader in models:
            if reader is maker:
                again = reader.load_state(tmp_path / "state.safetensors")
                assert torch.equal(reader.forward([1], again)[0], reader.forward([1], state)[0])
            else:
                with pytest.raises(StateError, match="must be a state of this model"):
                    reader.load_state(tmp_path / "state.safetensors")


def test_it_starts_from_the_zero_state_and_takes_any_in_memory(lm, adapter):
    state = lm.prefill("before")
    applied = lm.starting_from(state).with_adapter(adapter)
    expected, _ = applied.forward([1], state)

    assert torch.equal(applied.forward([1])[0], applied.forward([1], applied.zero_state())[0])
    assert not torch.equal(applied.forward([1])[0], expected)
    assert torch.equal(applied.starting_from(state).forward([1])[0], expected)


def test_an_adapter_of_other_weights_is_refused(adapter, tmp_path):
    other = LanguageModel(random_rwkv4(2, 32, V, seed=9), None)

    with pytest.raises(CheckpointError, match=r"must be an adapter of this model, rwkv4 with the"):
        other.load_adapter(adapter.path)
    with pytest.raises(ValueError, match=r"`adapter` must be of the weights of this model, with"):
        other.with_adapter(adapter)
    with pytest.raises(CheckpointError, match="must be an adapter of this model"):
        load(tmp_path / "model", adapter=adapter.path).load_adapter(adapter.path)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_rounded_model_with_it_is_near_the_merged_one_that_was_rounded(tmp_path, precision):
    plain = random_rwkv4(2, 32, V)
    rounded = LanguageModel(quantize_model(plain, precision), load_tokenizer("bytes"))
    file = tmp_path / "adapter"
    random_adapter(plain, base=rounded.fingerprint, seed=1).save(file)
    merged = load(tmp_path / "model", adapter=tmp_path / "1.safetensors")
    rounded_merged = load(
        tmp_path / "model", adapter=tmp_path / "1.safetensors", quantize=precision
    )
    tokens = [3, 50, 200, 7]

    found = rounded.with_adapter(rounded.load_adapter(file)).forward(tokens)[0]

    def far(each: Tensor, other: Tensor) -> float:
        return float((each - other).square().mean().sqrt())

    expected = merged.forward(tokens)[0]
    loss_of_rounding = far(rounded_merged.forward(tokens)[0], expected)
    assert far(found, expected) < 1.5 * loss_of_rounding
    assert far(found, rounded.forward(tokens)[0]) > 3 * far(found, expected)


def test_an_adapter_on_another_device_is_refused(lm, adapter):
    moved = {
        name: LowRank(*(each.to("meta") for each in pair))
        for name, pair in adapter.changes.layers.items()
    }
    elsewhere = replace(adapter, changes=LowRankChanges(moved))
    with pytest.raises(ValueError, match="`adapter` must be on the device of this model, cpu, but"):
        lm.with_adapter(elsewhere)


def test_a_model_with_an_adapter_beside_it_is_not_saved_as_if_it_were_merged(lm, adapter, tmp_path):
    with pytest.raises(ValueError, match=r"no changes beside its weights to be saved.*merge it"):
        save_model(lm.with_adapter(adapter).model, None, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
