"""What is told of a prompt is what the model says of it, however it was cut."""

import pytest
import torch

from receptance.inference import Engine, PromptRead, Request, SamplingParams
from tests.inference.engine_runs import run

PROMPT = list(b"a prompt of several chunks, and more")
NOTHING = SamplingParams(max_tokens=0)


def told(lm, request: Request, **options: int) -> PromptRead:
    """Return what an engine tells of a prompt, which it tells once."""
    engine = Engine(lm, poison=True, **options)
    id_ = engine.add(request)
    outputs = run(engine)[id_]
    assert all(each.prompt is None for each in outputs[1:])
    assert outputs[0].prompt is not None
    assert outputs[-1].error is None
    return outputs[0].prompt


def test_reading_alone_gives_the_state_and_no_token(lm):
    engine = Engine(lm, chunk_tokens=5, poison=True)
    ids = engine.fork(Request(PROMPT, SamplingParams(max_tokens=0, seed=1)), 3)
    outputs = run(engine)

    expected = lm.prefill(PROMPT)
    for id_ in ids:
        (output,) = outputs[id_]
        generation = output.generation
        assert generation is not None
        assert (output.token, output.text, generation.text) == (None, "", "")
        assert (generation.finish_reason, generation.generated_tokens) == ("length", 0)
        assert generation.prompt_tokens == len(PROMPT)
        for name, tensor in generation.state.tensors.items():
            assert torch.equal(tensor, expected.tensors[name])
    assert engine.n_running == 0


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:1], PROMPT[:2]])
def test_the_logprobs_of_a_prompt_are_its_score(lm, prompt):
    read = told(lm, Request(prompt, NOTHING, prompt_logprobs=2), chunk_tokens=7)

    assert read.n_tokens == len(prompt)
    assert read.logprobs is not None
    first, *rest = read.logprobs
    assert first is None
    expected = lm.score(prompt[:1], prompt[1:])
    found = [each.logprob for each in rest if each is not None]
    assert found == pytest.approx(expected, abs=1e-4)
    assert [each and each.token for each in rest] == prompt[1:]
    assert all(each and len(each.top) == 2 for each in rest)


@pytest.mark.parametrize("chunk_tokens", [1, 2, 5, 17, 18, 512])
def test_logprobs_and_features_do_not_depend_on_the_chunks(lm, chunk_tokens):
    request = Request(PROMPT, NOTHING, prompt_logprobs=1, wants_features=True)
    expected, found = told(lm, request), told(lm, request, chunk_tokens=chunk_tokens)

    assert found.logprobs == expected.logprobs
    assert found.features is not None
    assert expected.features is not None
    assert torch.equal(found.features, expected.features)


def test_features_are_what_the_head_sees_at_the_last_token(lm):
    features = told(lm, Request(PROMPT, NOTHING, wants_features=True), chunk_tokens=4).features

    with torch.no_grad():
        expected = lm.model.features(torch.tensor([PROMPT]))[0][0, -1]
    assert features is not None
    assert torch.equal(features, expected)
    assert not features.is_inference()


def test_a_text_goes_on_as_if_nothing_had_been_asked_of_its_prompt(lm):
    params = SamplingParams(max_tokens=9, seed=4, repetition_penalty=1.2)
    engine = Engine(lm, chunk_tokens=5)
    asked = engine.add(Request(PROMPT, params, prompt_logprobs=0, wants_features=True))
    plain = engine.add(Request(PROMPT, params))
    outputs = run(engine)

    assert [each.token for each in outputs[asked]] == [each.token for each in outputs[plain]]


def test_an_empty_prompt_has_no_logprobs_and_is_told(lm):
    read = told(lm, Request("", NOTHING, prompt_logprobs=1))

    assert (read.n_tokens, read.logprobs, read.features) == (0, (), None)


def test_every_text_of_a_family_is_told_of_the_prompt(lm):
    engine = Engine(lm, chunk_tokens=5)
    ids = engine.fork(Request(PROMPT, SamplingParams(max_tokens=2), prompt_logprobs=0), 3)
    outputs = run(engine)

    reads = [outputs[id_][0].prompt for id_ in ids]
    assert all(each is reads[0] for each in reads)
    assert reads[0] is not None
