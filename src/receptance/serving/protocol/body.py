"""The body of a request: every field is taken at its word, or refused by its name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from receptance.errors import RequestError

_SHOWN = 40


T = TypeVar("T")

Items = Annotated[list[T], Field(fail_fast=True)]
"""A list that is refused by its first wrong item: there may be a million of them."""


class Body(BaseModel):
    """An object of JSON that a client sends.

    Types are strict: `true` is no number and `"1"` is none either. A field that nobody declared is
    kept apart, for `require_known` to judge.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    REFUSED: ClassVar[Mapping[str, str]] = {}
    """Fields that OpenAI's API has and this server does not do, with what to do instead."""
    PASSED_OVER: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nothing about the answer, and are taken without being read."""


def require_known(body: Body, *, is_strict: bool, path: str = "") -> None:
    """Refuse a field that is not honoured, here or in an object within.

    A field that is null was not set, and so asks for nothing.

    Args:
        body: What was sent.
        is_strict: Whether a field that nobody knows is refused; if not, it is passed over.
        path: Where `body` stands in the request; empty for the request itself.

    Raises:
        RequestError: With the path of the first such field as `param`.
    """
    for name, value in (body.model_extra or {}).items():
        param = f"{path}.{name}" if path else name
        if value is None or name in body.PASSED_OVER:
            continue
        if name in body.REFUSED:
            raise RequestError(
                f"`{param}` is not supported by this server; {body.REFUSED[name]}",
                code="unsupported_parameter",
                param=param,
            )
        if is_strict:
            raise RequestError(
                f"`{_shortened(param)}` is not a field of this request; leave it out",
                code="unknown_parameter",
                param=param,
            )
    for param, child in _bodies_within(body, path):
        require_known(child, is_strict=is_strict, path=param)


def _bodies_within(body: Body, path: str) -> Iterator[tuple[str, Body]]:
    for name in type(body).model_fields:
        param = f"{path}.{name}" if path else name
        value = getattr(body, name)
        if isinstance(value, Body):
            yield param, value
        elif isinstance(value, list) and value and isinstance(value[0], Body):
            yield from ((f"{param}[{i}]", each) for i, each in enumerate(value))


def invalid_body(errors: Sequence[Mapping[str, Any]], body: Any) -> RequestError:
    """Return what to tell a client whose body pydantic found wrong.

    Args:
        errors: What pydantic says, with the places in "loc" counted from the body.
        body: What was sent, by which a place in it is told from the name of a type that was tried.
    """
    places = [_param(error["loc"], error["type"], body) for error in errors]
    # Of a union every type that was tried complains: the deepest complaint is of the nearest one.
    deepest = max(places, key=lambda place: place.count(".") + place.count("["))
    theirs = [error for error, place in zip(errors, places, strict=True) if place == deepest]
    if any(error["type"] == "missing" for error in theirs):
        message = f"`{deepest}` must be given"
    elif not deepest:
        message = "the body must be an object of JSON, sent as application/json"
    else:
        wanted = " or ".join(dict.fromkeys(_wanted(error) for error in theirs))
        message = f"`{_shortened(deepest)}` {wanted}{_what_it_is(theirs[0])}"
    return RequestError(message, param=deepest or None)


def _param(place: Sequence[str | int], kind: str, body: Any) -> str:
    """Return a place as a path such as "messages[0].role"."""
    path = ""
    for i, step in enumerate(place):
        is_missing = kind == "missing" and i == len(place) - 1
        if isinstance(step, int) and isinstance(body, list):
            path += f"[{step}]"
            body = body[step] if step < len(body) else None
        elif isinstance(step, str) and isinstance(body, dict) and (step in body or is_missing):
            path += f".{step}" if path else step
            body = body.get(step)
    return path


def _wanted(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "too_short":
            return f"must have at least {context['min_length']} in it"
        case "union_tag_invalid":
            return f"must have a `type` of {context['expected_tags']}"
        case "union_tag_not_found":
            return "must have a `type`"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message.replace("Input should", "must", 1)


def _what_it_is(error: Mapping[str, Any]) -> str:
    """Say what was sent, if it is short and no text of the user."""
    value = error["input"]
    if error["type"] == "literal_error" and isinstance(value, str):
        return f", but it is {_shortened(repr(value))}"
    if value is None:
        return ", but it is null"
    if isinstance(value, bool):
        return f", but it is {str(value).lower()}"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        return f", but it is {value!r}"
    if isinstance(value, dict | list) and not value:
        return ", but it is empty"
    names = {str: "a text", list: "a list", dict: "an object", int: "a number of many digits"}
    return f", but it is {names[type(value)]}" if error["type"] != "value_error" else ""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
