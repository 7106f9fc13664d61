"""Causal tracing: what is put back is what was there."""

import pytest
import torch

from paper.harness.tracing import Fact, subject_span, trace
from receptance.inference import LanguageModel
from receptance.models import RWKV4, RWKV4Config
from receptance.tokenizer import load_tokenizer

BYTES = load_tokenizer("bytes")
FACT = Fact("Anna is in", "Anna", "Rome")


@pytest.fixture
def lm() -> LanguageModel:
    torch.manual_seed(0)
    model = RWKV4(RWKV4Config(n_layer=3, n_embd=16, vocab_size=256))
    model.init_weights()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    return LanguageModel(model.requires_grad_(False).eval(), BYTES)


def test_the_tokens_of_a_subject_are_those_that_have_some_of_it():
    assert subject_span(Fact("Is Zoë in", "Zoë", "Rome"), BYTES) == (3, 7)


def test_a_subject_that_is_not_in_the_prompt_is_refused():
    with pytest.raises(ValueError, match="the subject must be in"):
        subject_span(Fact("Anna is in", "Berta", "Rome"), BYTES)


def test_without_noise_everything_is_as_in_the_clean_run(lm):
    found = trace(lm, FACT, 0.0)
    expected = sum(lm.score(FACT.prompt, " " + FACT.answer))
    assert found.clean == pytest.approx(expected, abs=1e-3)
    everything = [found.corrupted, *(each for row in found.restored for each in row)]
    assert everything == pytest.approx([found.clean] * len(everything), abs=1e-3)


def test_noise_reaches_what_follows_the_subject_and_nothing_before_it_helps(lm):
    fact = Fact("now Anna is in", "Anna", "Rome")
    found = trace(lm, fact, 1.0)
    assert abs(found.corrupted - found.clean) > 1e-2
    for row in found.restored:  # "now " was never disturbed
        assert row[:4] == pytest.approx([found.corrupted] * 4, abs=1e-3)


def test_the_last_layer_at_the_last_token_brings_back_the_next_token(lm):
    found = trace(lm, FACT._replace(answer=""), 1.0)  # the space alone
    assert abs(found.corrupted - found.clean) > 1e-3
    assert found.restored[-1][-1] == pytest.approx(found.clean, abs=1e-3)


def test_no_hook_is_left(lm):
    before = sum(lm.score(FACT.prompt, "x"))
    trace(lm, FACT, 1.0)
    assert sum(lm.score(FACT.prompt, "x")) == before
