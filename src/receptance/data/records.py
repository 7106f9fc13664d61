"""What a record is as text: a text, a prompt with its answer, or the turns of a chat.

A record is a JSON object, or a row of a table. Its keys say what it is; the parts of a prompt and
its answer stay apart, so that each is tokenized as it is when the model is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from receptance.chat_format import CHAT_FORMATS, ChatFormat, find_chat_format

_PROMPTS_AS_THEY_STAND = (("prompt", "answer"), ("prompt", "completion"), ("prompt", "response"))
_USERS_TURNS = (("instruction", "output"), ("question", "answer"))
_CHATS = (("messages", "role", "content"), ("conversations", "from", "value"))
_FIELDS = {"text", "input", *(chat[0] for chat in _CHATS)}.union(
    *_PROMPTS_AS_THEY_STAND, *_USERS_TURNS
)
_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_KNOWN = "'messages', 'conversations', 'prompt' and 'answer', 'instruction' and 'output', …"


class WrongRecordError(ValueError):
    """A record is not what its keys or the options say; the message begins with what is wrong."""


class Part(NamedTuple):
    """A stretch of a document that is tokenized by itself."""

    text: str
    counted: int | None
    """How many of its first bytes a model is to be trained to predict; None for all."""


@dataclass(frozen=True, kw_only=True)
class RecordFormat:
    """What of a record is its text.

    By default its keys tell: `messages` or `conversations` are a chat; `prompt` and `answer` (or
    `completion`, `response`) are a pair, joined as they stand; `instruction` (and `input`) and
    `output`, or `question` and `answer`, are a pair written as a chat of one turn each; `text` is a
    text.

    Attributes:
        text_field: The field of the text, if the records are to be read as texts.
        prompt_field: The field of the prompt, if they are to be read as pairs.
        answer_field: The field of the answer; given together with `prompt_field`.
        chat_format: How chats, and then pairs of any fields, are written: a name of
            `CHAT_FORMATS`. By default chats are written as the first of them says.
        loss_on: What a model is to be trained to predict of pairs and chats: the answers, and what
            ends them, or all. Of texts it is all.
    """

    text_field: str | None = None
    prompt_field: str | None = None
    answer_field: str | None = None
    chat_format: str | None = None
    loss_on: str = "answer"

    def __post_init__(self) -> None:
        if (self.prompt_field is None) != (self.answer_field is None):
            raise ValueError(
                "`prompt_field` and `answer_field` must be given together, got "
                f"{self.prompt_field!r} and {self.answer_field!r}"
            )
        if self.text_field is not None and self.prompt_field is not None:
            raise ValueError(
                "one of `text_field` and `prompt_field` must be given, not both, got "
                f"{self.text_field!r} and {self.prompt_field!r}"
            )
        if self.loss_on not in ("answer", "all"):
            raise ValueError(f"`loss_on` must be 'answer' or 'all', got {self.loss_on!r}")
        if self.chat_format is not None:
            find_chat_format(self.chat_format)

    def parts(self, record: Any) -> list[Part]:
        """Return the parts of a record's document, in order.

        A text is one part and may be blank. Of other documents each part is a prompt or an answer.

        Args:
            record: What a line of a file holds.

        Raises:
            WrongRecordError: If it is no record, lacks a field, or a field is not what it must be.
        """
        parts = self._parts(record)
        return parts if self.loss_on == "answer" else [Part(part.text, None) for part in parts]

    def fields_among(self, names: Sequence[str]) -> list[str]:
        """Return those names of a table's columns that `parts` may look at; all if it knows none.

        Args:
            names: Of all columns.
        """
        given = {self.text_field, self.prompt_field, self.answer_field} - {None}
        looked_at = [name for name in names if name in (given or _FIELDS)]
        return looked_at or list(names)

    def _parts(self, record: Any) -> list[Part]:
        if not isinstance(record, dict):
            raise WrongRecordError(f"the line must be a JSON object, but is {_kind(record)}")
        if self.text_field is not None:
            return [Part(_text(record, self.text_field), None)]
        if self.prompt_field is not None and self.answer_field is not None:
            prompt, answer = _said(record, self.prompt_field), _said(record, self.answer_field)
            return self._pair(prompt, answer, as_chat=False)
        return self._parts_by_keys(record)

    def _parts_by_keys(self, record: Mapping[str, Any]) -> list[Part]:
        given = {name for name, value in record.items() if value is not None}
        for field, speaker, text in _CHATS:
            if field in given:
                return _chat(_turns(record[field], field, speaker, text), self._chat_format)
        for pairs, as_chat in ((_PROMPTS_AS_THEY_STAND, False), (_USERS_TURNS, True)):
            for prompt_field, answer_field in pairs:
                if prompt_field in given and answer_field in given:
                    prompt, answer = _said(record, prompt_field), _said(record, answer_field)
                    if prompt_field == "instruction" and record.get("input"):
                        prompt = f"{prompt}\n{_text(record, 'input')}"
                    return self._pair(prompt, answer, as_chat=as_chat)
        if "text" in record:
            return [Part(_text(record, "text"), None)]
        raise WrongRecordError(
            f"the record must have a field 'text', or those of a pair or a chat ({_KNOWN}), but it "
            f"has {_names(record)}; name its fields with --text-field, or --prompt-field and "
            "--answer-field"
        )

    @property
    def _chat_format(self) -> ChatFormat:
        return find_chat_format(self.chat_format or next(iter(CHAT_FORMATS)))

    def _pair(self, prompt: str, answer: str, *, as_chat: bool) -> list[Part]:
        if as_chat or self.chat_format is not None:
            return _chat([("user", prompt), ("assistant", answer)], self._chat_format)
        return [Part(prompt, 0), Part(answer, None)]


def _chat(turns: list[tuple[str, str]], chat_format: ChatFormat) -> list[Part]:
    """Return the parts of a chat: what `Chat` would feed at a time, and what it would be told."""
    parts: list[Part] = []
    for role, text in turns:
        if role == "system":
            parts.append(Part(chat_format.opening(text), 0))
        elif role == "user":
            # What ends an answer is for the model to say, though it begins the user's turn.
            ends_answer = bool(parts) and parts[-1].counted is None
            counted = len(chat_format.stop.encode()) if ends_answer else 0
            parts.append(Part(chat_format.turn(text, is_first=not parts), counted))
        else:
            parts.append(Part(chat_format.answer(text), None))
    return parts


def _turns(value: Any, field: str, speaker_field: str, text_field: str) -> list[tuple[str, str]]:
    """Return who says what, checked: perhaps a system's turn, then a user's and an assistant's."""
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else _kind(value)
        raise WrongRecordError(f"`{field}` must be a list of turns, but is {found}")
    turns: list[tuple[str, str]] = []
    for index, turn in enumerate(value):
        name = f"{field}[{index}]"
        if not isinstance(turn, dict):
            raise WrongRecordError(f"`{name}` must be an object, but is {_kind(turn)}")
        speaker = _text(turn, speaker_field, name)
        if speaker not in _ROLES:
            raise WrongRecordError(
                f"`{name}.{speaker_field}` must be one of {', '.join(_ROLES)}, but is {speaker!r}"
            )
        role = _ROLES[speaker]
        expected = "assistant" if turns and turns[-1][0] == "user" else "user"
        if role != expected and not (role == "system" and index == 0):
            raise WrongRecordError(
                f"`{name}.{speaker_field}` must be the {expected}'s turn, but is {speaker!r}; a "
                "user and an assistant must take turns, perhaps after one turn of the system"
            )
        turns.append((role, _said(turn, text_field, name)))
    if turns[-1][0] != "assistant":
        raise WrongRecordError(
            f"`{field}` must end with an assistant's turn, but ends with a {turns[-1][0]}'s"
        )
    return turns


def _said(record: Mapping[str, Any], field: str, name: str = "") -> str:
    """Return a field that must be a text with more than white space."""
    text = _text(record, field, name)
    if not text or text.isspace():
        raise WrongRecordError(f"`{_join(name, field)}` must say something, but is {text[:20]!r}")
    return text


def _text(record: Mapping[str, Any], field: str, name: str = "") -> str:
    """Return a field that must be a text which UTF-8 can write."""
    if field not in record:
        raise WrongRecordError(
            f"the record must have a field `{_join(name, field)}`, but has {_names(record)}"
        )
    text = record[field]
    if not isinstance(text, str):
        raise WrongRecordError(f"`{_join(name, field)}` must be a text, but is {_kind(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise WrongRecordError(
            f"`{_join(name, field)}` must be Unicode text, but character {error.start} is half of "
            f"a surrogate pair ({text[error.start]!a}); mend or leave out the line"
        ) from None
    if "\0" in text:
        raise WrongRecordError(
            f"`{_join(name, field)}` must be text, but character {text.index(chr(0))} is zero, "
            "which no text has"
        )
    return text


def _join(name: str, field: str) -> str:
    return f"{name}.{field}" if name else field


def _names(record: Mapping[str, Any]) -> str:
    names = [repr(str(key)[:40]) for key in list(record)[:8]]
    return ", ".join(names) + (", …" if len(record) > 8 else "") if names else "none"


def _kind(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "null"
    kinds = {bool: "a truth value", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")
