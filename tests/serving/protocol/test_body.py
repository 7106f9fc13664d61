"""A body is taken at its word, or refused by the place that is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from receptance.errors import RequestError
from receptance.serving.protocol import ChatBody, CompletionBody
from receptance.serving.protocol.body import Body, invalid_body, require_known


class _Inner(Body):
    REFUSED: ClassVar[Mapping[str, str]] = {"colour": "leave it out"}

    size: int | None = None


class _Outer(Body):
    REFUSED: ClassVar[Mapping[str, str]] = {"tools": "use your hands"}
    HARMLESS: ClassVar[Mapping[str, Sequence[Any]]] = {"tools": (True, "none")}
    PASSED_OVER: ClassVar[frozenset[str]] = frozenset({"user"})

    inner: _Inner | None = None
    all_inner: list[_Inner] | None = None


def refusal(body: Any, *, is_strict: bool = True) -> RequestError:
    with pytest.raises(RequestError) as caught:
        require_known(_Outer.model_validate(body), is_strict=is_strict)
    return caught.value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"strange": 1}, "strange"),
        ({"inner": {"strange": 1}}, "inner.strange"),
        ({"all_inner": [{}, {"strange": 1}]}, "all_inner[1].strange"),
    ],
)
def test_an_unknown_field_is_refused_by_its_path(body: Any, param: str):
    error = refusal(body)
    assert (error.status, error.code, error.param) == (400, "unknown_parameter", param)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_token", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("max_new_tokens", "max_tokens"),
        ("top-k", "top_k"),
        ("repeat_penalty", "repetition_penalty"),
        ("Temperature", "temperature"),
        ("users", "user"),
    ],
)
def test_the_field_that_was_meant_is_told(name: str, meant: str):
    with pytest.raises(RequestError) as caught:
        require_known(ChatBody.model_validate({**CHAT, name: 1}), is_strict=True)
    assert str(caught.value).endswith(f"is not a field of this request; did you mean `{meant}`?")


def test_a_field_is_called_as_clients_call_it():
    form = {"type": "json_schema", "json_schema": {"schema": {}, "shema": {}}}
    with pytest.raises(RequestError, match="did you mean `schema`"):
        require_known(ChatBody.model_validate({**CHAT, "response_format": form}), is_strict=True)


def test_a_field_that_is_like_none_is_to_be_left_out():
    assert str(refusal({"strange": 1})).endswith("; leave it out")


def test_an_unknown_field_is_passed_over_if_the_server_is_told_so():
    require_known(_Outer.model_validate({"strange": 1, "inner": {"odd": 2}}), is_strict=False)


@pytest.mark.parametrize("is_strict", [True, False])
def test_what_cannot_be_done_is_refused_by_name_with_what_to_do(is_strict: bool):
    error = refusal({"tools": []}, is_strict=is_strict)
    assert (error.code, error.param) == ("unsupported_parameter", "tools")
    assert "use your hands" in str(error)
    assert refusal({"inner": {"colour": 1}}, is_strict=is_strict).param == "inner.colour"


def test_a_value_that_asks_for_nothing_is_taken_and_no_other():
    for value in (True, "none"):
        require_known(_Outer.model_validate({"tools": value}), is_strict=True)
    for value in (1, False, "all", [], {}):
        assert refusal({"tools": value}).param == "tools"


def test_a_field_that_is_null_asks_for_nothing():
    require_known(_Outer.model_validate({"tools": None, "strange": None}), is_strict=True)


def test_a_field_that_changes_nothing_is_taken():
    require_known(_Outer.model_validate({"user": "somebody"}), is_strict=True)


def test_a_long_name_is_shortened_in_the_message():
    assert len(str(refusal({"x" * 10_000: 1}))) < 200


def told(model: type[Body], body: Any) -> RequestError:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return invalid_body(list(caught.value.errors()), body)


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PICTURE = {"role": "user", "content": [{"type": "image_url"}]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [PICTURE]}, "messages[0].content[0].type"),
        ({"model": 3}, "model"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"n": "1"}, "n"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": 1}, "min_p"),
        ({"typical_p": 0}, "typical_p"),
        ({"top_k": -1}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"penalty_decay": 0}, "penalty_decay"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"seed": -2}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"stop": 3}, "stop"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"logit_bias": {"1": True}}, "logit_bias.1"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": 3}}, "response_format.type"),
        ({"response_format": "text"}, "response_format"),
        ({"response_format": {"type": "regex", "pattern": 3}}, "response_format.pattern"),
        ({"stream_options": []}, "stream_options"),
        ({"modalities": ["audio"]}, "modalities[0]"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change: Mapping[str, Any], param: str):
    error = told(ChatBody, {**CHAT, **change})
    assert error.param == param
    assert error.status == 400
    assert str(error).startswith(f"`{param}` must")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m"}, "messages"),
        ({**CHAT, "messages": [{"content": "hi"}]}, "messages[0].role"),
        ({**CHAT, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({**CHAT, "response_format": {}}, "response_format.type"),
        ({**CHAT, "response_format": {"type": "regex"}}, "response_format.pattern"),
        ({**CHAT, "response_format": {"type": "regex", "regex": "a"}}, "response_format.pattern"),
        (
            {**CHAT, "response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_a_field_that_is_missing_is_named(body: Mapping[str, Any], param: str):
    assert str(told(ChatBody, body)) == f"`{param}` must be given"
    assert told(ChatBody, body).param == param


def test_a_field_under_nearly_the_name_of_the_missing_one_is_told():
    error = told(ChatBody, {"model": "m", "message": []})
    assert str(error) == "`messages` must be given, but there is `message`"
    many = dict.fromkeys((f"message{i}" for i in range(100)), 1)
    assert str(told(ChatBody, {"model": "m", **many})) == "`messages` must be given"


@pytest.mark.parametrize("body", [[], "text", 3, None])
def test_a_body_that_is_no_object_is_told_so(body: Any):
    error = told(CompletionBody, body)
    assert error.param is None
    assert "object of JSON" in str(error)


def test_what_was_sent_is_told_if_it_is_short_and_no_text_of_the_user():
    assert str(told(ChatBody, {**CHAT, "n": 0})).endswith("but it is 0")
    assert str(told(ChatBody, {**CHAT, "n": True})).endswith("but it is true")
    assert str(told(ChatBody, {**CHAT, "stop": 3})).startswith(
        "`stop` must be a valid string or must be a valid list"
    )
    secret = {"role": "user", "content": {"secret": "word"}}
    assert "word" not in str(told(ChatBody, {**CHAT, "messages": [secret]}))
    assert str(told(ChatBody, {**CHAT, "messages": []})).endswith("but it is empty")
    assert str(told(ChatBody, {**CHAT, "stop": {}})).endswith("but it is an object")
    xml = told(ChatBody, {**CHAT, "response_format": {"type": "xml" * 100}})
    assert "but it is 'xmlxml" in str(xml)
    assert len(str(xml)) < 200
    robot = {"role": "robot", "content": "word"}
    assert "'robot'" in str(told(ChatBody, {**CHAT, "messages": [robot]}))
