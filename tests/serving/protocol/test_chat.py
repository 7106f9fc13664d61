"""What a request for a chat's answer says."""

from typing import Any

import pytest

from receptance.errors import RequestError
from receptance.serving.protocol import ChatBody, ChatMessage, require_possible_chat
from receptance.serving.protocol.body import require_known
from receptance.serving.settings import Settings


def body_of(**fields: Any) -> ChatBody:
    messages = [{"role": "user", "content": "hi"}]
    return ChatBody.model_validate({"model": "m", "messages": messages, **fields})


def refusal(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        require_possible_chat(body_of(**fields), Settings(max_top_logprobs=5))
    return caught.value


def test_content_is_a_text_or_parts_of_it():
    assert ChatMessage(role="user", content="a\nb").text == "a\nb"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert ChatMessage.model_validate({"role": "user", "content": parts}).text == "a\nb"
    assert ChatMessage(role="user", content="").text == ""


def test_logprobs_are_given_only_if_asked_for():
    assert body_of().n_logprobs is None
    assert body_of(logprobs=False).n_logprobs is None
    assert body_of(logprobs=True).n_logprobs == 0
    assert body_of(logprobs=True, top_logprobs=3).n_logprobs == 3


def test_a_tool_has_no_turn_here():
    error = refusal(messages=[{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}])
    assert (error.param, error.code) == ("messages[1].role", "unsupported_value")


def test_a_turn_must_say_something():
    for turn in (
        {"role": "assistant"},
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "user", "content": None, "tool_calls": []},
    ):
        assert refusal(messages=[turn]).param == "messages[0].content"


def test_a_conversation_has_a_number_of_turns_at_most():
    said = {"role": "user", "content": "a"}
    require_possible_chat(body_of(messages=[said] * 3), Settings(max_messages=3))
    with pytest.raises(RequestError, match="`messages` must be at most 2 here") as caught:
        require_possible_chat(body_of(messages=[said] * 3), Settings(max_messages=2))
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_an_answer_of_no_calls_and_no_text_is_an_empty_one():
    body = body_of(messages=[{"role": "assistant", "content": None, "tool_calls": []}])
    require_known(body, is_strict=True)
    require_possible_chat(body, Settings())
    assert body.messages[0].text == ""


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
    ],
)
def test_an_impossible_value_is_refused_by_name(fields: dict[str, Any], param: str):
    assert refusal(**fields).param == param


@pytest.mark.parametrize(
    "name",
    [
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("reasoning_effort", "reasoning", "audio", "prediction", "web_search_options"),
        *("verbosity", "suffix", "echo", "best_of", "prompt"),
    ],
)
def test_what_this_server_does_not_do_is_refused_by_name(name: str):
    with pytest.raises(RequestError) as caught:
        require_known(body_of(**{name: "x"}), is_strict=False)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize("name", ["tool_calls", "name", "reasoning_content", "audio"])
def test_what_a_turn_cannot_hold_is_refused_by_name(name: str):
    messages = [{"role": "assistant", "content": "a", name: "x"}]
    with pytest.raises(RequestError) as caught:
        require_known(body_of(messages=messages), is_strict=False)
    assert caught.value.param == f"messages[0].{name}"


def test_an_answer_of_ours_can_be_sent_back_as_it_is():
    messages = [{"role": "assistant", "content": "a", "refusal": None, "tool_calls": None}]
    require_known(body_of(messages=messages), is_strict=True)


@pytest.mark.parametrize(
    ("name", "value"), [("tool_calls", []), ("annotations", []), ("reasoning_content", "")]
)
def test_an_answer_of_another_server_can_be_sent_if_it_holds_no_more_than_text(
    name: str, value: Any
):
    messages = [{"role": "assistant", "content": "a", name: value}]
    require_known(body_of(messages=messages), is_strict=True)


@pytest.mark.parametrize(
    "name", ["user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]
)
def test_labels_that_change_nothing_are_taken(name: str):
    require_known(body_of(**{name: "x"}), is_strict=True)
