"""The body of a request: every field is taken at its word, or refused by its name."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from receptance.errors import RequestError

_WRONG_TYPES = {"union_tag_invalid", "union_tag_not_found"}  # at the object, not its `type`
_MISSING = {"missing", "union_tag_not_found"}
_SHOWN = 40
_MOST_COMPARED = 64  # names; more than any object has, and less than takes long
_ALIKE = 0.75  # of 1: `max_token`, `maxTokens` and `max_new_tokens` are like `max_tokens`


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
    HARMLESS: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Values of `REFUSED` fields that ask for what happens without them, and are taken."""
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
        if value is None or name in body.PASSED_OVER or _is_harmless(body, name, value):
            continue
        if name in body.REFUSED:
            raise RequestError(
                f"`{param}` is not supported by this server; {body.REFUSED[name]}",
                code="unsupported_parameter",
                param=param,
            )
        if is_strict:
            near = _nearest(name, _names_of(body))
            hint = f"did you mean `{near}`?" if near else "leave it out"
            raise RequestError(
                f"`{_shortened(param)}` is not a field of this request; {hint}",
                code="unknown_parameter",
                param=param,
            )
    for param, child in _bodies_within(body, path):
        require_known(child, is_strict=is_strict, path=param)


def _is_harmless(body: Body, name: str, value: Any) -> bool:
    # 1 is equal to True, and is not what was declared.
    values = body.HARMLESS.get(name, ())
    return any(type(value) is type(each) and value == each for each in values)


def _names_of(body: Body) -> list[str]:
    fields = type(body).model_fields
    return [*(field.alias or name for name, field in fields.items()), *sorted(body.PASSED_OVER)]


def _nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that somebody may have meant; None if none is like it."""
    if len(name) > _SHOWN:
        return None
    plain = {each.replace("_", ""): each for each in names}
    found = get_close_matches(re.sub(r"[-_ ]", "", name.lower()), plain, 1, _ALIKE)
    return plain[found[0]] if found else None


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
    first = theirs[0]
    if any(error["type"] in _MISSING for error in theirs):
        message = f"`{deepest}` must be given{_what_is_there_instead(first)}"
    elif not deepest:
        message = "the body must be an object of JSON, sent as application/json"
    else:
        wanted = " or ".join(dict.fromkeys(_wanted(error) for error in theirs))
        message = f"`{_shortened(deepest)}` {wanted}{_what_it_is(first)}"
    return RequestError(message, param=deepest or None)


def _param(place: Sequence[str | int], kind: str, body: Any) -> str:
    """Return a place as a path such as "messages[0].role"."""
    path, is_in_union = "", False
    for i, step in enumerate(place):
        is_last = i == len(place) - 1
        is_missing = kind == "missing" and is_last
        if isinstance(step, int) and isinstance(body, list):
            path += f"[{step}]"
            body = body[step] if step < len(body) else None
        elif isinstance(step, str) and isinstance(body, dict):
            # The type that an object says it has is a step of its own, before the field.
            if step == body.get("type") and not is_last and not is_in_union:
                is_in_union = True
                continue
            if step in body or is_missing:
                path += f".{step}" if path else step
                body, is_in_union = body.get(step), False
    return f"{path}.type" if kind in _WRONG_TYPES else path


def _what_is_there_instead(error: Mapping[str, Any]) -> str:
    """Name the field that was sent in place of the one that is missing, if one looks so."""
    there = error["input"]
    if error["type"] != "missing" or not isinstance(there, dict) or len(there) > _MOST_COMPARED:
        return ""
    near = _nearest(str(error["loc"][-1]), [name for name in there if len(name) <= _SHOWN])
    return f", but there is `{near}`" if near else ""


def _wanted(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "too_short":
            return f"must have at least {context['min_length']} in it"
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be an object"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message.replace("Input should", "must", 1)


def _what_it_is(error: Mapping[str, Any]) -> str:
    """Say what was sent, if it is short and no text of the user."""
    value = error["input"]
    if error["type"] == "union_tag_invalid":
        value = value["type"]
    if error["type"] in ("literal_error", "union_tag_invalid") and isinstance(value, str):
        return f", but it is {_shortened(repr(value))}"
    if value is None:
        return ", but it is null"
    if isinstance(value, bool):
        return f", but it is {str(value).lower()}"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        return f", but it is {value!r}"
    if error["type"] == "too_short":
        return ", but it is empty"
    names = {str: "a text", list: "a list", dict: "an object", int: "a number of many digits"}
    return f", but it is {names[type(value)]}" if error["type"] != "value_error" else ""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
