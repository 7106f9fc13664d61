"""A request is a value, and an output says whether it is the last."""

import dataclasses

import pytest

from receptance.inference import Output, Request, SamplingParams


def test_a_request_is_a_value():
    request = Request("text", SamplingParams(seed=1))

    assert request == Request("text", SamplingParams(seed=1))
    assert Request("text").params == SamplingParams()
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.prompt = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_last_output_has_the_whole_or_an_error(lm):
    generation = lm.generate("a", max_tokens=1)

    assert not Output(id=1, token=2, text="a").is_last
    assert Output(id=1, token=2, generation=generation).is_last
    assert Output(id=1, error=ValueError()).is_last
