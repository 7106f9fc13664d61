"""The form that an answer is to have."""

from typing import Annotated, Any, Literal

from pydantic import Field

from receptance.serving.protocol.body import Body


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JSONObjectFormat(Body):
    """An object of JSON."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON schema, and what the client calls it."""

    PASSED_OVER = frozenset({"description"})

    name: Annotated[str, Field(max_length=256)] | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None
    """The schema is always kept to, as if it were true."""


class JSONSchemaFormat(Body):
    """JSON that is valid under a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class RegexFormat(Body):
    """A text that a regular expression matches as a whole: ours, OpenAI has none."""

    type: Literal["regex"]
    pattern: str


ResponseFormat = Annotated[
    TextFormat | JSONObjectFormat | JSONSchemaFormat | RegexFormat, Field(discriminator="type")
]
"""One of the forms, told by its `type`."""
