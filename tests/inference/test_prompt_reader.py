"""What is told of a prompt is what the model says of it, however it was cut."""

from dataclasses import replace

import pytest
import torch

from receptance.inference import (
    Engine,
    PrefixCache,
    PromptRead,
    Request,
    SamplingParams,
    prompt_reader,
)
from tests.inference.engine_runs import run

PROMPT = list(b"a prompt of several chunks, and more")
NOTHING = SamplingParams(max_tokens=0)


def told(lm, request: Request, chunk_tokens: int | None = None) -> PromptRead:
    """Return what an engine tells of a prompt, which it tells once."""
    engine = Engine(lm, chunk_tokens=chunk_tokens, poison=True)
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


def remembering(lm) -> Engine:
    return Engine(lm, chunk_tokens=5, poison=True, prefix_cache=PrefixCache(10**6))


def cached_tokens(engine: Engine, request: Request) -> int:
    engine.add(request)
    (outputs,) = run(engine).values()
    assert outputs[0].prompt is not None
    return outputs[0].prompt.cached_tokens


def test_the_next_turn_goes_on_from_the_prompt_before_and_reads_only_what_is_new(lm):
    engine = remembering(lm)
    assert cached_tokens(engine, Request(PROMPT, NOTHING, cache_scope="a")) == 0

    lengths = []
    hook = lm.model.emb.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    try:
        n = cached_tokens(engine, Request([*PROMPT, 1, 2], NOTHING, cache_scope="a"))
    finally:
        hook.remove()

    assert n == len(PROMPT)
    assert lengths == [2]


def test_of_the_same_prompt_once_more_nothing_is_read(lm):
    engine = remembering(lm)
    plain = Request(PROMPT, SamplingParams(max_tokens=9, seed=1), cache_scope="a")
    rich = replace(plain, wants_features=True, logprobs=3)
    first = [list(run(engine).values()) for each in (plain, rich) if engine.add(each) >= 0]

    hook = lm.model.emb.register_forward_pre_hook(lambda *_: pytest.fail("a prompt was read"))
    try:
        again = [list(run(engine).values()) for each in (plain, rich) if engine.add(each) >= 0]
    finally:
        hook.remove()

    for (before,), (after,) in zip(first, again, strict=True):
        assert [each.text for each in after] == [each.text for each in before]
        assert [each.logprobs for each in after] == [each.logprobs for each in before]
        told, retold = before[0].prompt, after[0].prompt
        assert told is not None
        assert retold is not None
        assert (retold.cached_tokens, retold.n_tokens) == (len(PROMPT), len(PROMPT))
        if told.features is not None:
            assert retold.features is not None
            assert torch.equal(retold.features, told.features)


@pytest.mark.parametrize(
    "options",
    [
        {"cache_scope": "b"},
        {"cache_scope": None},
        {"cache_scope": "a", "prompt_logprobs": 0},
        {"cache_scope": "a", "state": True},
    ],
)
def test_states_are_gone_on_from_only_where_they_may_be(lm, options):
    engine = remembering(lm)
    assert cached_tokens(engine, Request(PROMPT, NOTHING, cache_scope="a")) == 0

    state = lm.prefill("before") if options.pop("state", False) else None
    longer = Request([*PROMPT, 1, 2], NOTHING, state=state, **options)

    assert cached_tokens(engine, longer) == 0
    if state is not None or options["cache_scope"] is None:
        assert cached_tokens(engine, Request([*PROMPT, 1, 2, 3], NOTHING, cache_scope="a")) == 36


def test_a_stream_is_read_as_a_stream(lm):
    engine = remembering(lm)
    for _ in range(2):
        assert cached_tokens(engine, Request(iter(PROMPT), NOTHING, cache_scope="a")) == 0


def test_long_prompts_are_remembered_on_their_way(lm, monkeypatch):
    monkeypatch.setattr(prompt_reader, "CHECKPOINT_TOKENS", 8)
    engine = remembering(lm)
    cached_tokens(engine, Request(PROMPT, NOTHING, cache_scope="a"))

    for kept, expected in [(8, 0), (9, 8), (16, 9), (17, 16), (31, 24), (33, 32)]:
        assert cached_tokens(engine, Request(PROMPT[:kept], NOTHING, cache_scope="a")) == expected


def test_tokens_that_there_are_not_are_refused_before_anything_is_remembered(lm):
    engine = remembering(lm)
    for wrong in (256, -1, 2**40):
        with pytest.raises(ValueError, match=f"tokens must be from 0 to 255.* got {wrong}"):
            engine.add(Request([*PROMPT, wrong], NOTHING, cache_scope="a"))
    assert engine.n_waiting == 0
