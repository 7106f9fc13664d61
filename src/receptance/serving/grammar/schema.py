"""Which JSON schemas are taken: those whose every word is kept to, and that are not too large."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from receptance.errors import RequestError
from receptance.serving.grammar.pattern import MAX_PARTS, check_pattern

MAX_BYTES = 64 * 1024
"""Of a schema as JSON."""
MAX_NODES = 4096
"""Schemas within a schema, and values that are listed in them."""
MAX_DEPTH = 48
"""Schemas within each other."""
MAX_PROPERTIES = 512
"""Of one object."""

FORMATS = (
    *("date-time", "time", "date", "duration", "email", "hostname"),
    *("ipv4", "ipv6", "uri", "uuid"),
)
_ONE = ("items", "additionalProperties")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_MAPS = ("$defs", "definitions", "properties", "patternProperties")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_OTHERS = ("type", "enum", "const", "required", "pattern", "format", "$ref")
# What says nothing about the JSON itself.
_NOTES = (
    *("title", "description", "default", "examples", "$comment", "$schema", "deprecated"),
    *("readOnly", "writeOnly", "discriminator"),
)
KEYWORDS = frozenset([*_ONE, *_LISTS, *_MAPS, *_COUNTS, *_NUMBERS, *_OTHERS, *_NOTES])
"""All that a schema may hold, and `$id` at its root; llguidance passes over what it does not know,
so whatever is not here is refused."""


def check_schema(schema: Mapping[str, Any], param: str) -> str:
    """Return a schema as JSON, if it can be kept to.

    Args:
        schema: As it came.
        param: Where it stands in the request.

    Raises:
        RequestError: If it is too large or too deep, or a part of it is unknown or no schema; its
            `param` is the path to it.
    """
    n_nodes = n_parts = 0
    waiting: list[tuple[str, Any, int]] = [(param, schema, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, Mapping):
            raise _wrong(path, "a schema: an object, true or false", node)
        if depth > MAX_DEPTH:
            raise RequestError(
                f"`{param}` must be at most {MAX_DEPTH} schemas deep, but it is deeper",
                param=param,
            )
        if any(
            isinstance(each, list | Mapping) and len(each) > MAX_NODES for each in node.values()
        ):
            raise _too_large(param)
        n_nodes += 1 + _check_keywords(node, path, is_root=depth == 0)
        if isinstance(node.get("pattern"), str):
            n_parts += check_pattern(node["pattern"], f"{path}.pattern")
        for key in node.get("patternProperties", ()):
            n_parts += check_pattern(key, f"{path}.patternProperties.{_named(key)}")
        children = [(where, child, depth + 1) for where, child in subschemas(node, path)]
        waiting += reversed(children)
        if n_nodes + len(waiting) > MAX_NODES or n_parts > MAX_PARTS:
            raise _too_large(param)
    written = json.dumps(schema, ensure_ascii=False)
    if len(written.encode(errors="replace")) > MAX_BYTES:
        raise _too_large(param)
    return written


def subschemas(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the schemas right within one, each with its path.

    Args:
        node: Whose keywords have the right kinds.
        path: Of it.
    """
    for keyword in _MAPS:
        for name, child in node.get(keyword, {}).items():
            yield f"{path}.{keyword}.{_named(name)}", child
    for keyword in _LISTS:
        for number, child in enumerate(node.get(keyword, ())):
            yield f"{path}.{keyword}[{number}]", child
    for keyword in _ONE:
        if keyword in node:
            yield f"{path}.{keyword}", node[keyword]


def _check_keywords(node: Mapping[str, Any], path: str, *, is_root: bool) -> int:
    """Refuse what cannot be kept to, and return how many values the keywords list."""
    n_values = 0
    for keyword, value in node.items():
        where = f"{path}.{_named(keyword)}"
        if keyword not in KEYWORDS and not (is_root and keyword == "$id"):
            raise RequestError(
                f"`{where}` must not be there: this server cannot keep a text to "
                f"{keyword[:60]!r}; leave it out, and check it yourself",
                code="unsupported_keyword",
                param=where,
            )
        if keyword in _LISTS or keyword == "enum":
            if not isinstance(value, list) or not value:
                raise _wrong(where, "a list with something in it", value)
            n_values += len(value) if keyword == "enum" else 0
        elif keyword in _MAPS:
            if not isinstance(value, Mapping):
                raise _wrong(where, "an object", value)
            if keyword == "properties" and len(value) > MAX_PROPERTIES:
                raise RequestError(
                    f"`{where}` must have at most {MAX_PROPERTIES} properties, but it has "
                    f"{len(value)}",
                    param=where,
                )
        elif keyword == "required":
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise _wrong(where, "a list of names", value)
            n_values += len(value)
        else:
            _check_value(keyword, value, where)
    return n_values


def _check_value(keyword: str, value: Any, where: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if keyword in _COUNTS and not (is_number and 0 <= value < 2**31 and value == int(value)):
        raise _wrong(where, "a whole number from 0 to 2147483647", value)
    if keyword in _NUMBERS and not (is_number and abs(value) < 2**63):
        raise _wrong(where, "a number of less than 19 digits", value)
    if keyword in ("pattern", "$ref", "format") and not isinstance(value, str):
        raise _wrong(where, "a string", value)
    if keyword == "format" and value not in FORMATS:
        raise _wrong(where, f"one of {', '.join(FORMATS)}", value)
    if keyword == "$ref" and not f"{value}/".startswith("#/"):
        raise _wrong(where, 'a path within the schema, such as "#/$defs/name"', value)


def _named(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:60]}…"


def _wrong(where: str, wanted: str, value: Any) -> RequestError:
    kind = {dict: "an object", list: "a list", type(None): "null"}.get(type(value))
    got = kind or json.dumps(value)[:60]
    return RequestError(f"`{where}` must be {wanted}, but it is {got}", param=where)


def _too_large(param: str) -> RequestError:
    return RequestError(
        f"`{param}` must have at most {MAX_NODES} schemas and values, {MAX_BYTES} bytes, and "
        f"{MAX_PARTS} parts in its patterns, but it has more; ask for less at once",
        param=param,
    )
