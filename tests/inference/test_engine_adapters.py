"""Requests with adapters and states of their own, in one batch, are each what it is alone."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.errors import StateError
from receptance.inference import (
    Engine,
    Generation,
    LanguageModel,
    LoadedAdapter,
    Output,
    Request,
    SamplingParams,
)
from receptance.models import State
from receptance.quantization import quantize_model
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_adapter, random_rwkv4, with_matrices

V = 256
MODEL = random_rwkv4(2, 24, V)


LM = LanguageModel(MODEL, load_tokenizer("bytes"), chunk_tokens=4, skips_zeros=True)


def adapters_of(lm: LanguageModel) -> list[LoadedAdapter]:
    """Return two adapters of a model of the shape of `MODEL`."""
    with TemporaryDirectory() as folder:
        file, loaded = Path(folder) / "adapter.safetensors", []
        for seed in (1, 2):
            plain = random_rwkv4(2, 24, V)
            random_adapter(plain, base=lm.fingerprint, seed=seed).save(file)
            loaded.append(lm.load_adapter(file))
        return loaded


@cache
def adapters() -> tuple[LoadedAdapter | None, ...]:
    """Return no adapter, and two of the model."""
    return (None, *adapters_of(LM))


NEVER_ENDS = SamplingParams(max_tokens=9, seed=5, logit_bias={0: -100.0})


def alone(request: Request, lm: LanguageModel = LM) -> Generation:
    lm = lm if request.adapter is None else lm.with_adapter(request.adapter)
    return lm.generate(request.prompt, request.params, state=request.state)


def assert_same(found: Generation | None, expected: Generation) -> None:
    """Compare all there is, the state bit for bit."""
    assert found is not None
    for name, value in vars(expected).items():
        if name != "state":
            assert getattr(found, name) == value, name
    for name, tensor in expected.state.tensors.items():
        assert torch.equal(found.state.tensors[name], tensor), name
    assert found.state.fingerprint is not None
    assert expected.state.fingerprint is not None
    assert found.state.fingerprint() == expected.state.fingerprint()


def run(engine: Engine) -> Iterator[Output]:
    while engine.n_running + engine.n_waiting:
        yield from engine.step()


@pytest.fixture
def engine() -> Engine:
    return Engine(LM, max_sequences=4, poison=True)


def in_precision(precision: str) -> LanguageModel:
    """Return `LM` with matrices in another precision."""
    model = random_rwkv4(2, 24, V)
    if precision in ("int8", "int4"):
        model = quantize_model(model, precision)
    elif precision == "bfloat16":
        model = with_matrices(model, torch.bfloat16)
    return LanguageModel(model, LM.tokenizer, chunk_tokens=4, skips_zeros=True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_a_plain_request_two_adapters_and_a_state_are_each_what_it_is_alone(precision):
    lm = in_precision(precision)
    engine = Engine(lm, max_sequences=4, poison=True)
    one, other = adapters_of(lm)
    requests = [
        Request("plain", NEVER_ENDS),
        Request("one", NEVER_ENDS, adapter=one),
        Request("other", NEVER_ENDS, adapter=other),
        Request("state", NEVER_ENDS, state=lm.prefill("a format to answer in")),
    ]
    ids = [engine.add(request) for request in requests]

    texts = {output.id: output.generation for output in run(engine) if output.generation}

    for id_, request in zip(ids, requests, strict=True):
        assert_same(texts[id_], alone(request, lm))
    assert len({text.tokens for text in texts.values()}) == 4


def test_the_state_of_a_text_is_of_the_adapter_that_wrote_it(engine, tmp_path):
    _, one, other = adapters()
    assert one is not None
    assert other is not None
    engine.add(Request("one", NEVER_ENDS, adapter=one))
    (text,) = [output.generation for output in run(engine) if output.generation]

    text.state.save(tmp_path / "state.safetensors")

    assert LM.with_adapter(one).load_state(tmp_path / "state.safetensors")
    for model in (LM, LM.with_adapter(other)):
        with pytest.raises(StateError, match="must be a state of this model"):
            model.load_state(tmp_path / "state.safetensors")


def test_what_stands_before_a_stop_string_is_read_again_with_the_adapter(engine):
    only = {token: float("-inf") for token in range(V) if chr(token) not in "ab"}
    params = SamplingParams(seed=1, max_tokens=40, logit_bias=only, stop=("aab",))
    request = Request("a", params, adapter=adapters()[1])
    engine.add(request)

    (text,) = [output.generation for output in run(engine) if output.generation]

    assert text.finish_reason == "stop"
    assert text.text.endswith("a")  # a part of the stop string, which was held back with it
    assert_same(text, alone(request))


def test_an_adapter_of_another_model_is_refused_and_nobody_else_is_touched(engine, tmp_path):
    other = random_rwkv4(2, 24, V, seed=9)
    random_adapter(other).save(tmp_path / "adapter.safetensors")
    foreign = LanguageModel(other, None).load_adapter(tmp_path / "adapter.safetensors")
    id_ = engine.add(Request("plain", NEVER_ENDS))
    engine.step()

    with pytest.raises(ValueError, match="`adapter` must be of the weights of this model"):
        engine.add(Request("foreign", NEVER_ENDS, adapter=foreign))

    assert (engine.n_running, engine.n_waiting) == (1, 0)
    (text,) = [output for output in run(engine) if output.is_last]
    assert text.id == id_
    assert_same(text.generation, alone(Request("plain", NEVER_ENDS)))


def test_an_engine_of_an_adapted_model_writes_with_its_adapter():
    _, one, other = adapters()
    assert one is not None
    engine = Engine(LM.with_adapter(one), poison=True)

    (found,) = engine.generate(["a"], NEVER_ENDS)
    engine.add(Request("a", NEVER_ENDS, adapter=other))
    (second,) = [output.generation for output in run(engine) if output.generation]

    assert_same(found, alone(Request("a", NEVER_ENDS, adapter=one)))
    assert_same(second, alone(Request("a", NEVER_ENDS, adapter=other)))


@cache
def states() -> tuple[State | None, ...]:
    """Return no state, one of the model as it is and one of an adapter."""
    adapter = adapters()[1]
    assert adapter is not None
    return None, LM.prefill("before"), LM.with_adapter(adapter).prefill("before")


class Plan(NamedTuple):
    """A family of requests, when it comes, and which of it is cancelled when."""

    prompt: tuple[int, ...]
    options: dict[str, Any]
    which_state: int
    which_adapter: int
    n: int
    arrives: int
    cancelled: dict[int, int]

    def requests(self) -> list[Request]:
        """Return what the members of the family are alone."""
        state, adapter = states()[self.which_state], adapters()[self.which_adapter]
        first = SamplingParams(**self.options)
        each = [replace(first, seed=(first.seed or 0) + i) for i in range(self.n)]
        return [Request(self.prompt, params, state, adapter) for params in each]


# Plain numbers: the hook that checks types draws some at random, which a strategy must not.
PLANS = st.builds(
    Plan,
    st.lists(st.integers(0, V - 1), min_size=1, max_size=9).map(tuple),
    st.fixed_dictionaries(
        {
            "seed": st.integers(0, 3),
            "max_tokens": st.integers(1, 6),
            "temperature": st.sampled_from([0.0, 1.0]),
            "frequency_penalty": st.sampled_from([0.0, 0.5]),
        }
    ),
    which_state=st.integers(0, 2),
    which_adapter=st.integers(0, 2),
    n=st.integers(1, 3),
    arrives=st.integers(0, 6),
    cancelled=st.dictionaries(st.integers(0, 2), st.integers(1, 6), max_size=1),
)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(plans=st.lists(PLANS, min_size=1, max_size=4), max_sequences=st.integers(3, 4))
def test_whoever_comes_goes_or_forks_the_texts_are_those_alone(plans, max_sequences):
    engine = Engine(LM, max_sequences=max_sequences, poison=True)
    expected: dict[int, Request] = {}
    cancels: dict[int, list[int]] = {}
    step = 0
    while step < 8 or engine.n_running + engine.n_waiting:
        for plan in (each for each in plans if each.arrives == step):
            requests = plan.requests()
            ids = engine.fork(requests[0], plan.n)
            expected |= zip(ids, requests, strict=True)
            for i in plan.cancelled.keys() & range(plan.n):
                cancels.setdefault(step + plan.cancelled[i], []).append(ids[i])
        for id_ in cancels.pop(step, []):
            assert engine.cancel(id_) == (expected.pop(id_, None) is not None)
        for output in engine.step():
            if output.is_last:
                assert_same(output.generation, alone(expected.pop(output.id)))
        step += 1
    assert expected == {}
