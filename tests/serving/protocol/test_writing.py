"""How a request says how to write."""

from typing import Any

import pytest

from receptance.errors import RequestError
from receptance.inference import SamplingParams
from receptance.serving.protocol import (
    ChatBody,
    CompletionBody,
    require_known,
    require_possible,
    require_possible_logprobs,
    sampling_params,
)
from receptance.serving.settings import Settings

SETTINGS = Settings(
    max_tokens=100,
    default_max_tokens=40,
    max_choices=4,
    max_stops=3,
    max_stop_characters=5,
    max_logit_bias=8,
    max_logprobs=1000,
)


def body_of(**fields: Any) -> CompletionBody:
    return CompletionBody.model_validate({"model": "m", **fields})


def params_of(stops: tuple[str, ...] = (), **fields: Any) -> SamplingParams:
    return sampling_params(body_of(**fields), SETTINGS, vocab_size=256, stops=stops)


def test_a_request_that_says_nothing_gets_openais_defaults():
    assert params_of() == SamplingParams(max_tokens=40)


def test_every_field_reaches_the_engine():
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "typical_p": 0.8,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "penalty_decay": 0.99,
        "seed": 5,
        "max_tokens": 9,
    }
    assert params_of(**fields) == SamplingParams(**fields)


def test_the_newer_name_of_the_limit_wins():
    assert params_of(max_tokens=3, max_completion_tokens=4).max_tokens == 4
    assert params_of(max_completion_tokens=5).max_tokens == 5
    assert body_of(max_tokens=3).limit == (3, "max_tokens")


def test_a_seed_of_minus_one_is_none():
    assert params_of(seed=-1) == params_of()
    assert params_of(seed=0).seed == 0


def test_an_integer_is_a_number():
    assert params_of(temperature=0, top_p=1).is_greedy


def test_stops_are_those_of_the_request_and_of_the_chat():
    assert params_of(stop="a", stops=("\n\nUser",)).stop == ("a", "\n\nUser")
    assert params_of(stop=["b", "a", "b"]).stop == ("b", "a")
    assert params_of(stop=[]).stop == ()


def test_a_bias_is_by_token():
    assert params_of(logit_bias={"5": 1, "255": -100}).logit_bias == {5: 1.0, 255: -100.0}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 101}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": "abcdef"}, "stop"),
        ({"logit_bias": {"256": 1.0}}, "logit_bias"),
        ({"logit_bias": {"-1": 1.0}}, "logit_bias"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias"),
        ({"logit_bias": {"²": 1.0}}, "logit_bias"),
        ({"logit_bias": {"1" * 5000: 1.0}}, "logit_bias"),
        ({"logit_bias": {str(token): 1.0 for token in range(9)}}, "logit_bias"),
    ],
)
def test_a_limit_is_kept_by_refusing_the_field(fields: dict[str, Any], param: str):
    with pytest.raises(RequestError) as caught:
        params_of(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400


HARMLESS = [
    ("tools", []),
    ("tool_choice", "none"),
    ("tool_choice", "auto"),
    ("parallel_tool_calls", True),
    ("parallel_tool_calls", False),
    ("functions", []),
    ("function_call", "none"),
    ("reasoning_effort", "none"),
]


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_what_asks_for_nothing_is_taken_by_both(name: str, value: Any):
    require_known(body_of(**{name: value}), is_strict=True)
    messages = [{"role": "user", "content": "a"}]
    chat = {"model": "m", "messages": messages, name: value}
    require_known(ChatBody.model_validate(chat), is_strict=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tools", {}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function"}),
        ("parallel_tool_calls", 1),
        ("functions", [{}]),
        ("function_call", {"name": "a"}),
        ("reasoning_effort", "low"),
    ],
)
def test_what_asks_for_more_is_refused_by_both(name: str, value: Any):
    chat = {"model": "m", "messages": [{"role": "user", "content": "a"}], name: value}
    for body in (body_of(**{name: value}), ChatBody.model_validate(chat)):
        with pytest.raises(RequestError) as caught:
            require_known(body, is_strict=False)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)


PADDED = {"stream": True, "stream_options": {"include_obfuscation": True}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 5}, "n"),
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"stream_options": {}}, "stream_options"),
        (PADDED, "stream_options.include_obfuscation"),
    ],
)
def test_an_impossible_value_is_refused_by_name(fields: dict[str, Any], param: str):
    with pytest.raises(RequestError) as caught:
        require_possible(body_of(**fields), SETTINGS)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 4},
        {"store": False},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
    ],
)
def test_a_value_that_asks_for_nothing_special_is_taken(fields: dict[str, Any]):
    require_possible(body_of(**fields), SETTINGS)


def test_usage_comes_with_a_stream_only_if_it_is_asked_for_by_name():
    assert not body_of(stream=True).includes_usage
    assert not body_of(stream=True, stream_options={}).includes_usage
    assert not body_of(stream=True, stream_options={"include_usage": False}).includes_usage
    assert body_of(stream=True, stream_options={"include_usage": True}).includes_usage


def test_more_logprobs_than_can_be_kept_are_refused():
    require_possible_logprobs(None, 10**9, 10**9, SETTINGS)
    require_possible_logprobs(9, 50, 50, SETTINGS)
    require_possible_logprobs(0, 0, 1000, SETTINGS)
    for asked in ((9, 51, 50), (9, 50, 51), (0, 1001, 0)):
        with pytest.raises(RequestError, match="ask for fewer") as refused:
            require_possible_logprobs(*asked, SETTINGS)
        assert (refused.value.status, refused.value.param) == (400, "logprobs")
