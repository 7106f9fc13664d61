"""What is known before the model is fed can be had before it is fed."""

import pytest
import torch

from receptance.inference import Engine, LanguageModel, Output, Request, SamplingParams
from receptance.inference.runner import Runner
from receptance.tokenizer import load_tokenizer
from tests.inference.engine_runs import assert_same, run, whole
from tests.random_models import random_rwkv4

REQUESTS = [
    Request(prompt, SamplingParams(max_tokens=n_tokens, seed=3, stop=("st",)))
    for prompt, n_tokens in [("def main(", 9), ("", 0), ("of several chunks", 1), ("x", 5)]
]


@pytest.fixture
def engine() -> Engine:
    lm = LanguageModel(random_rwkv4(1, 8, 256, dtype=torch.float64), load_tokenizer("bytes"))
    return Engine(lm, max_sequences=3, chunk_tokens=5, poison=True)


def test_what_is_told_and_what_is_returned_are_all_outputs(engine):
    expected = [engine.add(each) for each in REQUESTS]
    returned = run(engine)
    ids = [engine.add(each) for each in REQUESTS]
    outputs: dict[int, list[Output]] = {each: [] for each in ids}

    def tell(news: list[Output]) -> None:
        assert not any(each.is_last for each in news)
        for each in news:
            outputs[each.id].append(each)

    while engine.n_running + engine.n_waiting:
        for each in engine.step(tell):
            assert each.is_last
            outputs[each.id].append(each)

    for id_, same in zip(ids, expected, strict=True):
        assert [each.text for each in outputs[id_]] == [each.text for each in returned[same]]
        assert_same(whole(outputs[id_]), whole(returned[same]))


def test_tokens_are_told_before_the_model_is_fed_them(engine, monkeypatch):
    events: list[str] = []
    decode = Runner.decode
    monkeypatch.setattr(Runner, "decode", lambda *given: (events.append("fed"), decode(*given))[1])
    engine.add(REQUESTS[0])
    engine.step()
    events.clear()

    for _ in range(3):
        engine.step(lambda outputs: events.extend("told" for _ in outputs))

    assert events == ["told", "fed"] * 3


def test_an_error_is_returned(engine):
    engine.add(REQUESTS[0])
    while not engine.step():
        pass
    for each in engine._sequences.values():
        each.logits = torch.full_like(each.logits, torch.nan)
    told: list[Output] = []

    (output,) = engine.step(told.extend)

    assert isinstance(output.error, ValueError)
    assert not told
