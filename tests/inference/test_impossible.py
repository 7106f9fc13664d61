"""A caller of the engine can tell what is wrong with a request from what is wrong with us."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from receptance.inference import (
    Engine,
    ImpossibleRequestError,
    LanguageModel,
    Request,
    SamplingParams,
)
from receptance.tokenizer import BytesTokenizer
from tests.inference.constraints import OneOf
from tests.random_models import random_rwkv4


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(random_rwkv4(2, 16, 256), BytesTokenizer())


def requests(lm: LanguageModel) -> dict[str, Request]:
    smaller = LanguageModel(random_rwkv4(1, 16, 256), BytesTokenizer())
    return {
        "token": Request([300]),
        "empty": Request("", state=lm.prefill("a")),
        "states": Request("a", state=lm.model.zero_state(2)),
        "other model": Request("a", state=smaller.prefill("a")),
        "bias": Request("a", SamplingParams(logit_bias={256: 1.0})),
    }


@pytest.mark.parametrize("name", ["token", "empty", "states", "other model", "bias"])
def test_a_request_that_cannot_be_begun_is_refused_as_one(lm, name):
    engine = Engine(lm, max_sequences=1)
    with pytest.raises(ImpossibleRequestError):
        engine.add(requests(lm)[name])
    assert engine.n_waiting + engine.n_running == 0


def test_a_request_whose_stream_has_no_such_token_or_that_leaves_no_token_fails_as_one(lm):
    engine = Engine(lm, max_sequences=2, chunk_tokens=2)
    asked = Request("a", SamplingParams(max_tokens=3, seed=1))
    stream = replace(asked, prompt=iter([1, 2, 3, 4, 5, 300]))
    nothing = replace(asked, constraint=NothingMay)
    ids = [engine.add(stream), engine.add(nothing)]
    errors = {}
    while engine.n_running + engine.n_waiting:
        errors |= {each.id: each.error for each in engine.step()}
    assert [type(errors[id_]) for id_ in ids] == [ImpossibleRequestError] * 2


class NothingMay(OneOf):
    """A rule that no token keeps."""

    def __init__(self) -> None:
        super().__init__([[1]])

    def allowed(self) -> Bool[Tensor, " V"]:
        return torch.zeros(256, dtype=torch.bool)
