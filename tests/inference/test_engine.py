"""Each request gets the text that it would get alone, whatever else the engine does."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from receptance.errors import TokenizerError
from receptance.inference import Engine, LanguageModel, Output, Request, SamplingParams
from receptance.tokenizer import load_tokenizer, train_bpe
from tests.inference.engine_runs import assert_same, assert_same_state, run, whole
from tests.random_models import random_rwkv4

PROMPTS = ["def main(", "", "a much longer prompt, of several chunks", "x", "naïve ✓"]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """In float64, where tokens do not hang on rounding, and with tokens of several bytes."""
    text = "a stop string may begin in the middle of a token, and so may a word; stop, stop it. "
    tokenizer = train_bpe([text * 5], 300)
    model = random_rwkv4(2, 16, tokenizer.vocab_size + 7, dtype=torch.float64)
    return LanguageModel(model, tokenizer)


@pytest.fixture
def engine(lm) -> Engine:
    return Engine(lm, max_sequences=3, chunk_tokens=5, poison=True)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0, "seed": 0},
        {"seed": 5},
        {"seed": 7, "temperature": 0.7, "top_k": 9, "top_p": 0.9},
        {"seed": 1, "repetition_penalty": 1.3, "frequency_penalty": 0.2},
        {"seed": 2, "stop": ("s", "it", " a")},
    ],
)
def test_generating_many_is_generating_each(lm, engine, options):
    params = SamplingParams(max_tokens=12, **options)

    for prompt, found in zip(PROMPTS, engine.generate(PROMPTS, params), strict=True):
        assert_same(found, lm.generate(prompt, params))
    assert engine.n_running == engine.n_waiting == 0


def test_outputs_are_the_text_as_it_comes(lm, engine):
    params = SamplingParams(max_tokens=9, seed=3, stop=("st",))
    ids = [engine.add(Request(prompt, params)) for prompt in PROMPTS]

    outputs = run(engine)

    assert sorted(outputs) == sorted(ids)
    for id_, prompt in zip(ids, PROMPTS, strict=True):
        generation = whole(outputs[id_])
        assert_same(generation, lm.generate(prompt, params))
        assert "".join(each.text for each in outputs[id_]) == generation.text
        assert len(outputs[id_]) == generation.generated_tokens
        assert [each.is_last for each in outputs[id_][:-1]] == [False] * (len(outputs[id_]) - 1)


def test_requests_of_all_kinds_may_meet_at_any_time(lm, engine):
    kinds = [
        SamplingParams(max_tokens=20, seed=4),
        SamplingParams(max_tokens=3, temperature=0.0, seed=0),
        SamplingParams(max_tokens=15, seed=6, top_p=0.8, presence_penalty=0.5),
        SamplingParams(max_tokens=8, seed=4, logit_bias={5: 2.0}),
    ]
    outputs: dict[int, list[Output]] = {}
    ids = {}
    for params in kinds:
        ids[engine.add(Request("some prompt", params))] = params
        for output in engine.step() + engine.step():
            outputs.setdefault(output.id, []).append(output)
    for id_, more in run(engine).items():
        outputs.setdefault(id_, []).extend(more)

    for id_, params in ids.items():
        assert_same(whole(outputs[id_]), lm.generate("some prompt", params))


def test_a_request_goes_on_from_a_state_and_leaves_it_as_it_was(lm, engine):
    params = SamplingParams(max_tokens=6, seed=1)
    first = lm.generate("once", params)
    before = first.state.clone()

    id_ = engine.add(Request(" upon", params, state=first.state))
    found = whole(run(engine)[id_])

    assert_same(found, lm.generate(" upon", params, state=first.state))
    assert all(torch.equal(t, before.tensors[name]) for name, t in first.state.tensors.items())


def test_the_state_of_a_generation_can_be_saved_and_gone_on_from(lm, engine, tmp_path):
    (first,) = engine.generate(["once"], SamplingParams(max_tokens=6, seed=1))
    first.state.save(tmp_path / "state.safetensors")

    id_ = engine.add(Request(" upon", state=lm.load_state(tmp_path / "state.safetensors")))
    engine.step()

    assert engine.cancel(id_)


def test_a_model_starts_from_its_initial_state(lm):
    started = lm.starting_from(lm.prefill("before"))
    params = SamplingParams(max_tokens=5, temperature=0.0, seed=0)

    (found,) = Engine(started).generate(["x"], params)

    assert_same(found, lm.generate("x", params, state=lm.prefill("before")))


def test_a_fork_reads_the_prompt_once_and_writes_with_one_seed_after_the_other(lm, engine):
    n_read = 0

    def prompt() -> Iterator[int]:
        nonlocal n_read
        for token in range(11):
            n_read += 1
            yield token

    params = SamplingParams(max_tokens=7, seed=2**63 - 2, repetition_penalty=1.2)
    ids = engine.fork(Request(prompt(), params), 3)
    outputs = run(engine)

    assert n_read == 11
    for id_, seed in zip(ids, (2**63 - 2, 2**63 - 1, 0), strict=True):
        assert_same(whole(outputs[id_]), lm.generate(range(11), params, seed=seed))


def test_a_fork_without_a_seed_draws_the_first_and_tells_them(engine):
    ids = engine.fork(Request("a", SamplingParams(max_tokens=2)), 2)
    outputs = run(engine)

    first, second = (whole(outputs[id_]).seed for id_ in ids)
    assert second == first + 1


@pytest.mark.parametrize("n", [0, 4])
def test_a_fork_must_fit(engine, n):
    with pytest.raises(ValueError, match=f"`n` must be from 1 to 3, got {n}"):
        engine.fork(Request("a"), n)


def test_a_fork_waits_for_room_and_members_may_be_cancelled_at_any_time(lm, engine):
    params = SamplingParams(max_tokens=4, seed=1)
    alone = engine.add(Request("a", params))
    engine.step()
    ids = engine.fork(Request("a prompt of many chunks", params), 3)
    assert engine.n_waiting == 3
    run_until_read = [engine.step() for _ in range(4)]
    assert run_until_read
    assert not engine.cancel(alone)  # it is done
    assert (engine.n_waiting, engine.n_running) == (0, 3)

    assert engine.cancel(ids[0])  # whose slot the family reads in
    outputs = run(engine)

    assert sorted(outputs) == ids[1:]
    for id_, seed in zip(ids[1:], (2, 3), strict=True):
        assert_same(whole(outputs[id_]), lm.generate("a prompt of many chunks", params, seed=seed))


def test_cancelling_frees_the_slot_wherever_the_request_is(engine):
    params = SamplingParams(max_tokens=50, logit_bias={0: -100.0})
    writing = engine.add(Request("a", params))
    engine.step()
    reading = engine.add(Request("many chunks of tokens, to be read", params))
    engine.step()
    waiting = [engine.add(Request("b", params)) for _ in range(4)]
    engine.step()
    assert (engine.n_running, engine.n_waiting) == (3, 3)

    for id_ in (writing, reading, *waiting):
        assert engine.cancel(id_)
        assert not engine.cancel(id_)

    assert not engine.cancel(99)
    assert (engine.n_running, engine.n_waiting) == (0, 0)
    assert engine.step() == []
    assert len(engine.fork(Request("a", params), 3)) == 3
    assert run(engine)


def test_a_long_prompt_delays_nobody_by_more_than_its_chunks(lm, engine):
    """A step reads one chunk, and every sequence that is written gets a token in it."""
    lengths = []
    hook = lm.model.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    try:
        writing = engine.add(Request("a", SamplingParams(max_tokens=30, logit_bias={0: -100.0})))
        engine.step()
        engine.add(Request((1 for _ in range(10_000)), SamplingParams(max_tokens=1)))
        short = engine.add(Request("b", SamplingParams(max_tokens=1)))
        lengths.clear()
        steps = [engine.step() for _ in range(4)]
    finally:
        hook.remove()

    assert all(output.id in (writing, short) for step in steps for output in step)
    assert all(any(output.id == writing for output in step) for step in steps)
    assert any(output.id == short for step in steps for output in step)
    assert all(length <= 5 for length in lengths)
    assert sum(length > 1 for length in lengths) <= 4


def test_what_is_wrong_is_refused_when_it_is_added(lm, engine):
    state = lm.prefill("a")
    wrong = {
        r"`prompt` must hold at least one token when there is a `state`": Request("", state=state),
        "tokens must be from 0 to 304": Request([305]),
        "must be the memory of one sequence, got one of 2": Request(
            "a", state=state.concatenate([state, state])
        ),
        "`state` must be of one sequence and of this model": Request(
            "a", state=random_rwkv4(1, 16, 20).zero_state(1)
        ),
        "`logit_bias` must name tokens below 298": Request(
            "a", SamplingParams(logit_bias={298: 1.0})
        ),
    }
    for words, request in wrong.items():
        with pytest.raises(ValueError, match=words):
            engine.add(request)
    with pytest.raises(ValueError, match="`n_slots` must be at least 1, got 0"):
        Engine(lm, max_sequences=0)
    with pytest.raises(ValueError, match="`chunk_tokens` must be at least 1, got 0"):
        Engine(lm, chunk_tokens=0)
    with pytest.raises(TokenizerError, match="text needs a tokenizer"):
        Engine(LanguageModel(lm.model, None))

    assert (engine.n_running, engine.n_waiting) == (0, 0)


def test_an_error_ends_one_request_and_touches_no_other(lm, engine):
    params = SamplingParams(max_tokens=9, seed=3)
    forbidden = {token: float("-inf") for token in range(lm.tokenizer.vocab_size)}
    good = engine.add(Request("good", params))
    mute = engine.add(Request("mute", SamplingParams(logit_bias=forbidden)))
    late = engine.add(Request([1] * 8 + [999], params))
    odd = engine.add(Request(iter([1] * 8 + [1.5]), params))  # pyright: ignore[reportArgumentType]

    outputs = run(engine)

    assert_same(whole(outputs[good]), lm.generate("good", params))
    for id_, words in (
        (mute, "the largest logit must be finite"),
        (late, "got 999"),
        (odd, "'flo"),
    ):
        (output,) = outputs[id_]
        assert output.is_last
        assert words in str(output.error)
    assert len(engine.fork(Request("a"), 3)) == 3
    engine.step()
    assert engine.n_running == 3


def test_a_stream_that_breaks_raises_and_is_forgotten(engine):
    def broken() -> Iterator[int]:
        yield from [1] * 8
        raise OSError("the disk is gone")

    params = SamplingParams(max_tokens=9, seed=3)
    good = engine.add(Request("good", params))
    engine.step()
    engine.add(Request(broken(), params))

    with pytest.raises(OSError, match="the disk is gone"):
        engine.step()

    assert engine.n_running == 1
    assert whole(run(engine)[good]).seed == 3


def test_generating_wants_the_engine_for_itself_and_leaves_nothing_behind(engine):
    id_ = engine.add(Request("a"))
    with pytest.raises(RuntimeError, match="no requests of its own while it generates"):
        engine.generate(["b"])
    engine.cancel(id_)

    with pytest.raises(ValueError, match="got 999"):
        engine.generate(["a", "b", [1] * 8 + [999], "c", "d"])

    assert (engine.n_running, engine.n_waiting) == (0, 0)
    assert len(engine.generate(["a"] * 5, SamplingParams(max_tokens=2))) == 5


def test_the_memory_of_the_states_is_known():
    model = random_rwkv4(2, 16, 256)
    engine = Engine(LanguageModel(model, load_tokenizer("bytes")), max_sequences=7)

    assert engine.memory_bytes == 7 * 5 * 2 * 16 * 4


@pytest.mark.parametrize("fails", ["prefill", "decode"])
def test_what_fails_in_the_model_is_forgotten_and_the_rest_goes_on(lm, engine, monkeypatch, fails):
    params = SamplingParams(max_tokens=4, temperature=0.0, seed=0)
    broken = engine.add(Request("a prompt of several chunks", params))
    if fails == "decode":
        while not engine.step():
            pass

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine._runner, fails, fail)
        if fails == "prefill":
            (output,) = engine.step()
            assert (output.id, type(output.error)) == (broken, MemoryError)
        else:
            with pytest.raises(MemoryError):
                engine.step()
    assert engine.n_running + engine.n_waiting == 0
    assert not engine.cancel(broken)
    (found,) = engine.generate(["x"], params)
    assert_same(found, lm.generate("x", params))


def test_what_fails_before_a_prompt_is_read_ends_its_request(engine, monkeypatch):
    good = engine.add(Request("good", SamplingParams(max_tokens=2, seed=1)))
    engine.step()
    bad = engine.add(Request("bad"))

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine._pool, "write", fail)
        (*_, output) = sorted(engine.step(), key=lambda each: each.id)

    assert (output.id, type(output.error)) == (bad, MemoryError)
    assert not engine.cancel(good)
    assert engine.n_running + engine.n_waiting == 0
    assert len(engine.fork(Request("a"), 3)) == 3


def test_what_fails_after_the_last_token_ends_its_request(lm, engine, monkeypatch):
    params = SamplingParams(max_tokens=3, seed=1, logit_bias={0: -100.0})
    ids = [engine.add(Request("a", replace(params, max_tokens=n))) for n in (3, 4)]
    engine.step()

    def fail(*_: object) -> None:
        raise MemoryError

    sequence = engine._sequences[ids[0]]
    with monkeypatch.context() as patched:
        patched.setattr(sequence.draft, "finish", fail)
        outputs = run(engine)

    assert isinstance(outputs[ids[0]][-1].error, MemoryError)
    assert_same(whole(outputs[ids[1]]), lm.generate("a", params, max_tokens=4))
    assert len(engine.fork(Request("a"), 3)) == 3


def test_all_that_there_is_can_be_cancelled_at_once(engine):
    params = SamplingParams(max_tokens=50, logit_bias={0: -100.0})
    ids = [engine.add(Request("many chunks of tokens", params)) for _ in range(5)]
    for _ in range(6):
        engine.step()

    assert sorted(engine.cancel_all()) == ids
    assert engine.n_running + engine.n_waiting == 0
    assert engine.step() == engine.cancel_all() == []
    assert len(engine.fork(Request("a"), 3)) == 3


def test_a_prompt_may_be_all_that_is_wanted(lm, engine):
    found = lm.generate("once", max_tokens=0, seed=1)
    (same,) = engine.generate(["once"], SamplingParams(max_tokens=0, seed=1))

    assert (found.text, found.finish_reason, found.generated_tokens) == ("", "length", 0)
    assert_same(same, found)
    assert_same_state(found.state, lm.prefill("once"))
