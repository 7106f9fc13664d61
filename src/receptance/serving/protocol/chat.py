"""A request for the next turn of a conversation."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from receptance.errors import RequestError
from receptance.serving.protocol.body import Body, Items
from receptance.serving.protocol.writing import NO_REASONING, NO_TOOLS, WritingBody
from receptance.serving.settings import Settings

_NO_ANSWER = "`max_tokens` must be at least 1, but it is 0"
_TOP_OF_NOTHING = "`top_logprobs` must be left out unless `logprobs` is true"
_NO_MEDIA = "it reads and writes text alone: leave it out"


class ContentPart(Body):
    """A part of what is said."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A turn."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "name": "no chat format here has a place for it: write it into the content",
        "tool_calls": NO_TOOLS,
        "tool_call_id": NO_TOOLS,
        "function_call": NO_TOOLS,
        "reasoning_content": NO_REASONING,
        "reasoning": NO_REASONING,
        "audio": _NO_MEDIA,
        "refusal": "leave it out",
        "annotations": "leave it out",
    }
    HARMLESS: ClassVar[Mapping[str, Sequence[Any]]] = {
        "tool_calls": ([],),
        "reasoning_content": ("",),
        "reasoning": ("",),
        "annotations": ([],),
    }

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Items[ContentPart] | None = None

    @property
    def text(self) -> str:
        """What is said; parts of it are lines of their own."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""

    @property
    def says_something(self) -> bool:
        """Whether there is content, be it an empty text.

        An answer that lists no calls of tools needs none: so do clients write an empty answer.
        """
        calls = (self.model_extra or {}).get("tool_calls")
        return self.content is not None or (self.role == "assistant" and calls == [])


class ChatBody(WritingBody):
    """The body of `/v1/chat/completions`."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "tools": NO_TOOLS,
        "tool_choice": NO_TOOLS,
        "parallel_tool_calls": NO_TOOLS,
        "functions": NO_TOOLS,
        "function_call": NO_TOOLS,
        "reasoning_effort": NO_REASONING,
        "reasoning": NO_REASONING,
        "verbosity": "say in the messages how long the answer shall be",
        "audio": _NO_MEDIA,
        "prediction": "leave it out: nothing would be faster by it",
        "web_search_options": "it never asks another server: leave it out",
        "moderation": "leave it out",
        "best_of": "use `n`",
        "echo": "use /v1/completions",
        "prompt": "use `messages`, or /v1/completions",
        "suffix": "use /v1/completions",
    }

    messages: Annotated[Items[ChatMessage], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    modalities: Items[Literal["text"]] | None = None

    @property
    def n_logprobs(self) -> int | None:
        """How many likeliest tokens are listed beside each; None is no logprobs at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


def require_possible_chat(body: ChatBody, settings: Settings) -> None:
    """Refuse what a chat alone can have wrong.

    Args:
        body: What was sent.
        settings: The limits.

    Raises:
        RequestError: With the name of the field as `param`.
    """
    require_said(body.messages, settings)
    if body.max_tokens == 0:
        raise RequestError(_NO_ANSWER, param="max_tokens")
    if body.top_logprobs is not None:
        if not body.logprobs:
            raise RequestError(_TOP_OF_NOTHING, param="top_logprobs")
        if body.top_logprobs > settings.max_top_logprobs:
            raise RequestError(
                f"`top_logprobs` must be at most {settings.max_top_logprobs} here, but it is "
                f"{body.top_logprobs}",
                param="top_logprobs",
            )


def require_said(messages: Sequence[ChatMessage], settings: Settings) -> None:
    """Refuse turns in which nothing is said, those of tools, and too many of them.

    Args:
        messages: The turns.
        settings: The limits.

    Raises:
        RequestError: With the place of the first such turn as `param`.
    """
    if len(messages) > settings.max_messages:
        raise RequestError(
            f"`messages` must be at most {settings.max_messages} here, but they are "
            f"{len(messages)}; go on from a `state` of the earlier ones",
            param="messages",
        )
    for i, message in enumerate(messages):
        if message.role == "tool":
            raise RequestError(
                f"`messages[{i}].role` must not be tool at this server; {NO_TOOLS}",
                code="unsupported_value",
                param=f"messages[{i}].role",
            )
        if not message.says_something:
            raise RequestError(
                f"`messages[{i}].content` must be a text or a list of parts, but it is null",
                param=f"messages[{i}].content",
            )
