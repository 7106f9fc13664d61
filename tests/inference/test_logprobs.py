"""A token's logprob is the model's own, whatever is done to the logits before the choice."""

import math

import pytest
import torch

from receptance.inference import Engine, Request, SamplingParams, TokenLogprobs
from receptance.inference.logprobs import token_logprobs
from tests.inference.engine_runs import run

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log() + 3


def test_logprobs_are_of_all_rows_and_the_likeliest_of_those_that_are_tokens():
    found = token_logprobs(LOGITS, 2, 2, vocab_size=3)

    assert (found.token, [token for token, _ in found.top]) == (2, [1, 2])
    assert found.logprob == pytest.approx(math.log(0.2))
    assert found.top[0][1] == pytest.approx(math.log(0.4))
    assert found.top[1][1] == found.logprob


def test_more_than_there_are_is_all():
    assert len(token_logprobs(LOGITS, 0, 20, vocab_size=4).top) == 4
    assert token_logprobs(LOGITS, 0, 0, vocab_size=4).top == ()


def test_what_is_generated_has_the_logprobs_that_the_model_gives_it(lm):
    params = SamplingParams(max_tokens=6, seed=3, temperature=0.5, logit_bias={65: 4.0, 0: -99.0})
    engine = Engine(lm, max_sequences=2)
    plain = engine.add(Request("a prompt", params))
    id_ = engine.add(Request("a prompt", params, logprobs=3))
    outputs = run(engine)

    assert all(each.logprobs is None for each in outputs[plain])
    tokens = [each.token for each in outputs[id_]]
    assert tokens == [each.token for each in outputs[plain]]
    told = [each.logprobs for each in outputs[id_] if each.logprobs is not None]
    assert [each.token for each in told] == tokens
    assert [each.logprob for each in told] == pytest.approx(lm.score("a prompt", tokens), abs=1e-3)
    assert all(len(each.top) == 3 for each in told)
    assert all(each.top[0][1] >= each.logprob for each in told)


def test_the_likeliest_token_has_the_first_of_the_likeliest_logprobs_to_the_last_bit(lm):
    engine = Engine(lm)
    id_ = engine.add(Request("x", SamplingParams(max_tokens=9, temperature=0.0), logprobs=1))

    told = [each.logprobs for each in run(engine)[id_]]

    assert told
    assert all(isinstance(each, TokenLogprobs) and each.top[0][1] == each.logprob for each in told)
