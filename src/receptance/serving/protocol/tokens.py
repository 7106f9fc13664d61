"""Requests for the tokens of a text, and for the text of tokens."""

from typing import Annotated, ClassVar

from pydantic import Field

from receptance.serving.protocol.body import Body, Items
from receptance.serving.protocol.chat import ChatMessage


class TokenizeBody(Body):
    """The body of `/tokenize`: a text, or the messages of a chat."""

    # No tokenizer here puts tokens around a text.
    PASSED_OVER: ClassVar[frozenset[str]] = frozenset({"add_special_tokens"})

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[Items[ChatMessage], Field(min_length=1)] | None = None


class DetokenizeBody(Body):
    """The body of `/detokenize`."""

    model: str | None = None
    tokens: Items[int]
