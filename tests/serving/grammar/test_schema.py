"""Which schemas are taken, and where the others are wrong."""

import json
from typing import Any

import pytest

from receptance.errors import RequestError
from receptance.serving.grammar.schema import MAX_PROPERTIES, check_schema


def refused(schema: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as error:
        check_schema(schema, "s")
    assert error.value.status == 400
    return error.value


def test_a_schema_that_can_be_kept_to_is_given_as_json():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/person",
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Z]", "maxLength": 20},
            "born": {"type": "string", "format": "date", "description": "when"},
            "friends": {"type": "array", "items": {"$ref": "#/$defs/person"}, "maxItems": 3},
            "age": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
            "any": True,
        },
        "required": ["name"],
        "additionalProperties": False,
        "$defs": {"person": {"enum": ["a", "b", None, 1]}},
    }
    assert json.loads(check_schema(schema, "s")) == schema


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        ({"not": {"type": "string"}}, "s.not"),
        ({"type": "array", "uniqueItems": True}, "s.uniqueItems"),
        ({"properties": {"a": {"items": {"if": {}}}}}, "s.properties.a.items.if"),
        ({"anyOf": [{}, {"contains": {}}]}, "s.anyOf[1].contains"),
        ({"$defs": {"x": {"dependentRequired": {}}}}, "s.$defs.x.dependentRequired"),
        ({"x-guidance": {"lenient": True}}, "s.x-guidance"),
        ({"properties": {"a": {"$id": "http://x"}}}, "s.properties.a.$id"),
        ({"minProperties": 1}, "s.minProperties"),
        ({"nullable": True}, "s.nullable"),
        ({"foo" * 100: 1}, "s." + ("foo" * 20) + "…"),
    ],
)
def test_a_word_that_cannot_be_kept_to_is_refused_by_its_path(schema: dict[str, Any], param: str):
    error = refused(schema)
    assert (error.code, error.param) == ("unsupported_keyword", param)


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        ({"items": [{"type": "null"}]}, "s.items"),
        ({"properties": {"a": None}}, "s.properties.a"),
        ({"properties": []}, "s.properties"),
        ({"anyOf": []}, "s.anyOf"),
        ({"anyOf": {"a": {}}}, "s.anyOf"),
        ({"enum": []}, "s.enum"),
        ({"required": "a"}, "s.required"),
        ({"required": [1]}, "s.required"),
        ({"maxLength": -1}, "s.maxLength"),
        ({"maxLength": 2**31}, "s.maxLength"),
        ({"minItems": 1.5}, "s.minItems"),
        ({"minItems": True}, "s.minItems"),
        ({"minItems": float("nan")}, "s.minItems"),
        ({"minimum": "1"}, "s.minimum"),
        ({"maximum": 10**300}, "s.maximum"),
        ({"pattern": 5}, "s.pattern"),
        ({"pattern": "((a{100}){100}){100}"}, "s.pattern"),
        ({"patternProperties": {"a{99999}": {}}}, "s.patternProperties.a{99999}"),
        ({"format": "credit-card"}, "s.format"),
        ({"$ref": "http://127.0.0.1/x"}, "s.$ref"),
        ({"$ref": "file:///etc/passwd"}, "s.$ref"),
        ({"$ref": "#name"}, "s.$ref"),
        ({"properties": {f"p{n}": {} for n in range(MAX_PROPERTIES + 1)}}, "s.properties"),
        ({"patternProperties": {f"a{n}": {} for n in range(10**5)}}, "s"),
        ({"enum": list(range(5000))}, "s"),
        ({"anyOf": [{}] * 5000}, "s"),
        ({"const": "x" * 70_000}, "s"),
        ({"anyOf": [{"pattern": f"a{{900}}{n}"} for n in range(20)]}, "s"),
    ],
)
def test_what_is_no_schema_or_too_large_is_refused_by_its_path(schema: dict[str, Any], param: str):
    assert refused(schema).param == param


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
def test_a_deep_schema_is_refused_without_recursion(depth: int):
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    assert refused(schema).param == "s"
    while schema:  # so that Python need not recurse to forget it either
        schema = schema["items"]
