"""Prompts as text or as tokens, one or many: told apart by what the list begins with."""

from typing import Annotated, Any

from pydantic import PlainValidator

Prompt = str | list[int]

_WANTED = "must be a text, a list of texts, a list of tokens, or a list of lists of tokens"


def _prompts(value: Any) -> list[Prompt]:
    """Return the prompts that were sent.

    Raises:
        ValueError: If they are of another shape.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError(_WANTED if value != [] else "must have at least one prompt")
    first = value[0]
    if isinstance(first, str) and all(isinstance(each, str) for each in value):
        return list(value)
    if _is_tokens(value):
        return [value]
    if isinstance(first, list) and all(
        isinstance(each, list) and _is_tokens(each) for each in value
    ):
        return list(value)
    raise ValueError(_WANTED)


def _is_tokens(value: list[Any]) -> bool:
    return set(map(type, value)) <= {int}  # a bool's type is not int


Prompts = Annotated[
    list[Prompt],
    PlainValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
"""A field that holds one prompt or many; it is a list of them once it was read."""
