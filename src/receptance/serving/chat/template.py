"""What a conversation is, and what it becomes for a model to read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from receptance.errors import RequestError

ROLES = ("system", "developer", "user", "assistant")
"""Who may speak; "developer" is another name for "system"."""

_NO_MESSAGES = "`messages` must hold at least one, but it is empty"

# What Unicode calls the end of a line, and what no reader sees: an empty line may be made of them.
_LINE_ENDS = "\n\v\f\x1c-\x1e\x85\u2028\u2029"
_INVISIBLE = "\u00ad\u180e\u200b-\u200f\u2060\ufeff"
_EMPTY_LINES = re.compile(rf"[{_LINE_ENDS}][\s{_INVISIBLE}]*[{_LINE_ENDS}]")


@dataclass(frozen=True)
class Message:
    """What one side says."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class RenderedPrompt:
    """A conversation for a model to go on from."""

    tokens: list[int]
    """All that it reads. Those of a conversation begin with those of the conversation up to any
    earlier answer, so that a state after them can be gone on from."""
    stop: tuple[str, ...]
    """Texts that show that the answer is over; they are not part of it."""
    strips_space: bool
    """Whether the space that an answer begins with belongs to the form and not to the answer."""


@runtime_checkable
class ChatTemplate(Protocol):
    """How the turns of a conversation are written for one model."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def render(
        self, messages: Sequence[Message], *, goes_on: bool = False, asks: bool = True
    ) -> RenderedPrompt:
        """Return what the model reads; it may take time, so not where others wait.

        Args:
            messages: The turns in their order.
            goes_on: Whether a state remembers turns that came before these.
            asks: Whether an answer is to be written next; without it the turns stand alone, to be
                kept as a state.

        Raises:
            RequestError: If there is no message, a role is unknown, or a message cannot be
                written; `param` names it.
        """
        ...


def checked(messages: Sequence[Message], *, goes_on: bool) -> None:
    """Refuse what no template can write.

    Args:
        messages: The turns.
        goes_on: As for `render`.

    Raises:
        RequestError: If there is no message, a role is not one of `ROLES`, a state that is gone on
            from is given new instructions, or a text holds half a character.
    """
    if not messages:
        raise RequestError(_NO_MESSAGES, param="messages")
    for number, message in enumerate(messages):
        param = f"messages[{number}].role"
        if message.role in ("tool", "function"):
            raise RequestError(
                f"`{param}` must be one of {', '.join(ROLES)}, but it is {message.role!r}: this "
                "server runs no tools; say what the tool returned in a message of the user",
                code="unsupported_role",
                param=param,
            )
        if message.role not in ROLES:
            raise RequestError(
                f"`{param}` must be one of {', '.join(ROLES)}, but it is {message.role[:40]!r}",
                param=param,
            )
        if goes_on and message.role in ("system", "developer"):
            raise RequestError(
                f"`{param}` must not be {message.role!r} when a state is gone on from: it has had "
                "its instructions; leave this message out, or make a new state",
                param=param,
            )
        _check_text(number, message.content)


def _check_text(number: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        param = f"messages[{number}].content"
        raise RequestError(
            f"`{param}` must be Unicode, but character {error.start} is half of a surrogate pair",
            param=param,
        ) from error


def without_empty_lines(text: str) -> str:
    """Return the text with no empty line, which would end its turn and could forge another.

    Lines count as empty by any line end of Unicode, and if only what is invisible is in them.
    """
    return _EMPTY_LINES.sub("\n", text.replace("\r\n", "\n").replace("\r", "\n"))
