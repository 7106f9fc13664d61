"""Prompts and tokens go through the model to the slots that they are for."""

import pytest
import torch

from receptance.inference.runner import Runner
from receptance.inference.state_pool import StatePool
from receptance.models import changed_model
from tests.random_models import random_changes, random_rwkv4
from tests.tolerances import ALGEBRA

MODEL = random_rwkv4(2, 8, 17, dtype=torch.float64)


@pytest.fixture
def runner() -> Runner:
    return Runner(MODEL.pack(), StatePool(MODEL.zero_state(1), 3, poison=True))


@torch.no_grad()
def logits_after(tokens: list[int]) -> torch.Tensor:
    return MODEL(torch.tensor([tokens]))[0][0, -1]


def test_a_prompt_in_chunks_is_the_prompt(runner):
    slot = runner.pool.acquire()

    runner.prefill(slot, [1, 2, 3], MODEL)
    logits = runner.prefill(slot, [4, 5], MODEL)

    torch.testing.assert_close(logits, logits_after([1, 2, 3, 4, 5]), **ALGEBRA)


def test_features_lead_to_the_logits_of_every_token_and_to_the_same_state(runner):
    slot, other = runner.pool.acquire(), runner.pool.acquire()
    runner.prefill(slot, [1, 2, 3], MODEL)
    expected = runner.prefill(slot, [4, 5], MODEL)

    runner.prefill_features(other, [1, 2, 3], MODEL)
    features = runner.prefill_features(other, [4, 5], MODEL)

    before = runner.head(features[:1], MODEL)[0]
    torch.testing.assert_close(before, logits_after([1, 2, 3, 4]), **ALGEBRA)
    assert torch.equal(runner.head(features[1:], MODEL)[0], expected)
    for name, tensor in runner.pool.read(slot).tensors.items():
        assert torch.equal(tensor, runner.pool.read(other).tensors[name])


def test_each_sequence_gets_its_own_token(runner):
    prompts = {runner.pool.acquire(): [5, 6], runner.pool.acquire(): [9, 8, 7]}
    for slot, tokens in prompts.items():
        runner.prefill(slot, tokens, MODEL)

    first, second = prompts
    logits = runner.decode([second, first], [3, 4], [None, None])

    torch.testing.assert_close(logits[0], logits_after([9, 8, 7, 3]), **ALGEBRA)
    torch.testing.assert_close(logits[1], logits_after([5, 6, 4]), **ALGEBRA)


def test_a_sequence_is_fed_to_the_changes_of_the_model_that_it_names(runner):
    changes = random_changes(MODEL)
    changed = changed_model(MODEL, changes)
    plain, other = runner.pool.acquire(), runner.pool.acquire()
    runner.prefill(plain, [5, 6], MODEL)
    runner.prefill(other, [5, 6], changed)

    logits = runner.decode([other, plain], [4, 4], [changes, None])

    with torch.no_grad():
        expected = changed(torch.tensor([[5, 6, 4]]))[0][0, -1]
    torch.testing.assert_close(logits[0], expected, **ALGEBRA)
    torch.testing.assert_close(logits[1], logits_after([5, 6, 4]), **ALGEBRA)


def test_states_are_ordinary_tensors_for_whoever_reads_them(runner):
    slot = runner.pool.acquire()
    runner.prefill(slot, [1, 2], MODEL)
    runner.decode([slot], [3], [None])

    state = runner.pool.read(slot)
    logits, _ = MODEL(torch.tensor([[4]]), state)
    logits.sum().backward()

    assert not any(tensor.is_inference() for tensor in state.tensors.values())
    assert MODEL.head.weight.grad is not None
    MODEL.zero_grad()
