"""The answers: OpenAI's objects, whole or as the events of a stream."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from receptance.inference import Generation
from receptance.serving.metrics import FINISH_REASONS
from receptance.serving.off_loop import WrittenJSON, json_bytes, short_json

DONE = b"data: [DONE]\n\n"
"""The end of a stream in which nothing went wrong."""

PING = b": ping\n\n"
"""A comment, which keeps a connection open."""


def finish_reason(generation: Generation) -> str:
    """Return OpenAI's word for why a text ended: "stop" or "length"."""
    return FINISH_REASONS[generation.finish_reason]


def usage_object(
    prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
) -> dict[str, Any]:
    """Return how many tokens an answer took.

    Args:
        prompt_tokens: Of the prompt, counted once however many texts go on from it.
        completion_tokens: All that were chosen, those of a stop text and the one that ends a text
            included.
        cached_tokens: Of the prompt, those that were not read anew.
    """
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def event(data: dict[str, Any]) -> bytes:
    """Return an event of a stream."""
    return b"data: " + short_json(data) + b"\n\n"


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What every object of one answer has in common."""

    kind: str
    """ "chatcmpl" or "cmpl": what its id begins with."""
    model: str
    system_fingerprint: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def object(
        self, name: str, choices: Sequence[dict[str, Any] | WrittenJSON], **more: Any
    ) -> dict[str, Any]:
        """Return an object around choices.

        Args:
            name: What it is: "chat.completion", "chat.completion.chunk" or "text_completion".
            choices: What it holds.
            more: Further fields.
        """
        return {
            "id": f"{self.kind}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": list(choices),
            **more,
        }


class Stream:
    """The events of an answer, each made with no more work than its text needs.

    If `includes_usage`, every event has a `usage`, which is null in all but the last.
    """

    def __init__(self, envelope: Envelope, *, includes_usage: bool) -> None:
        """Begin.

        Args:
            envelope: What the events have in common.
            includes_usage: Whether the count of tokens is to come at the end.
        """
        self._envelope = envelope
        self._is_chat = envelope.kind == "chatcmpl"
        self._name = "chat.completion.chunk" if self._is_chat else "text_completion"
        self._more: dict[str, Any] = {"usage": None} if includes_usage else {}
        # All that an event has before and after its choice never changes.
        empty = short_json(envelope.object(self._name, [], **self._more))
        head, tail = empty.rsplit(b'"choices":[]', 1)
        self._head = b"data: " + head + b'"choices":['
        self._tail = b"]" + tail + b"\n\n"

    def begin(self, index: int) -> bytes:
        """Return the event before a choice's text; a completion has none."""
        if not self._is_chat:
            return b""
        return self._event(self._chat_choice(index, {"role": "assistant", "content": ""}))

    def text(self, index: int, text: str, logprobs: dict[str, Any] | None = None) -> bytes:
        """Return the event of a piece of a choice's text."""
        if self._is_chat:
            return self._event(self._chat_choice(index, {"content": text}, logprobs))
        return self._event(self._completion_choice(index, text, logprobs))

    def finish(self, index: int, reason: str) -> bytes:
        """Return the event that says why a choice's text is over; no text is in it."""
        if self._is_chat:
            return self._event(self._chat_choice(index, {}, None, reason))
        return self._event(self._completion_choice(index, "", None, reason))

    def end(self, usage: dict[str, Any], **more: Any) -> bytes:
        """Return the last events.

        Args:
            usage: Sent if it was asked for.
            more: Further fields for an event without choices, which is sent if there are any.
        """
        if self._more:
            more = {"usage": usage, **more}
        if not more:
            return DONE
        return event(self._envelope.object(self._name, [], **more)) + DONE

    def _event(self, choice: dict[str, Any]) -> bytes:
        write = short_json if choice["logprobs"] is None else json_bytes
        return self._head + write(choice) + self._tail

    @staticmethod
    def _chat_choice(
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    @staticmethod
    def _completion_choice(
        index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None = None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def chat_answer_choice(
    index: int, text: str, reason: str, logprobs: dict[str, Any] | None
) -> dict[str, Any]:
    """Return a choice of a chat's whole answer."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}
