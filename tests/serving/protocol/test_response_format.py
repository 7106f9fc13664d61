"""The forms that an answer may have."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from receptance.serving.protocol import (
    JSONObjectFormat,
    JSONSchemaFormat,
    RegexFormat,
    ResponseFormat,
    TextFormat,
)

FORMATS: TypeAdapter[Any] = TypeAdapter(ResponseFormat)


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"type": "text"}, TextFormat),
        ({"type": "json_object"}, JSONObjectFormat),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, JSONSchemaFormat),
        ({"type": "regex", "pattern": "a+"}, RegexFormat),
    ],
)
def test_a_form_is_told_by_its_type(form: dict[str, Any], kind: type):
    assert type(FORMATS.validate_python(form)) is kind


def test_a_schema_is_kept_as_it_was_sent():
    schema = {"type": "object", "properties": {"schema": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    assert FORMATS.validate_python(form).json_schema.schema_ == schema


@pytest.mark.parametrize(
    "form",
    [
        {"type": "xml"},
        {},
        {"type": "json_schema", "json_schema": {"name": "a"}},
        {"type": "json_schema", "json_schema": {"schema": "a"}},
        {"type": "regex", "pattern": 3},
    ],
)
def test_another_form_is_refused(form: dict[str, Any]):
    with pytest.raises(ValidationError):
        FORMATS.validate_python(form)
