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


@pytest.mark.parametrize("name", ["logprobs", "prompt_logprobs"])
def test_fewer_likeliest_tokens_than_none_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
        dataclasses.replace(Request("a"), **{name: -1})


def test_the_last_output_has_the_whole_or_an_error(lm):
    generation = lm.generate("a", max_tokens=1)

    assert not Output(id=1, token=2, text="a").is_last
    assert Output(id=1, token=2, generation=generation).is_last
    assert Output(id=1, error=ValueError()).is_last
