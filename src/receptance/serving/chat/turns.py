"""The forms that come with the package: the authors' turns, and no turns at all."""

from collections.abc import Iterator, Sequence

from receptance.chat_format import ChatFormat
from receptance.errors import RequestError
from receptance.serving.chat.template import (
    Message,
    RenderedPrompt,
    checked,
    without_empty_lines,
)
from receptance.tokenizer import Tokenizer

_INSTRUCTIONS = ("system", "developer")


class TurnTemplate:
    """Turns as a `ChatFormat` writes them, each tokenized alone, so that earlier ones stay."""

    def __init__(self, name: str, chat_format: ChatFormat, tokenizer: Tokenizer) -> None:
        """Take a format.

        Args:
            name: What it is called.
            chat_format: How turns are written.
            tokenizer: Of the model.
        """
        self.name = name
        self._format = chat_format
        self._tokenizer = tokenizer

    def render(
        self, messages: Sequence[Message], *, goes_on: bool = False, asks: bool = True
    ) -> RenderedPrompt:
        """Return what the model reads; see `ChatTemplate.render`.

        Instructions stand before all turns. Several messages of one side are several turns.
        """
        checked(messages, goes_on=goes_on)
        parts = self._parts(messages, goes_on=goes_on, asks=asks)
        tokens = [token for part in parts for token in self._tokenizer.encode(part)]
        return RenderedPrompt(tokens=tokens, stop=(self._format.stop,), strips_space=True)

    def _parts(self, messages: Sequence[Message], *, goes_on: bool, asks: bool) -> Iterator[str]:
        """Yield the texts to be tokenized, one after the other.

        A user's turn ends with the cue for an answer if one follows. That is where a prompt that
        asks for this answer ends, so it is where the tokens of a longer one are parted too.
        """
        form = self._format
        cue = f"\n\n{form.assistant}:"
        turns = _after_instructions(messages)
        instructions = messages[: len(messages) - len(turns)]
        opening = form.opening(
            without_empty_lines("\n".join(each.content for each in instructions))
        )
        if opening:
            yield opening
        is_first = not opening and not goes_on
        for number, message in enumerate(turns, start=len(instructions)):
            _check_turn(number, message)
            is_last = number + 1 == len(messages)
            is_answered = asks if is_last else messages[number + 1].role == "assistant"
            text = form.clean(without_empty_lines(message.content))
            if message.role == "assistant":
                if number == len(instructions):  # nobody asked
                    yield cue.lstrip() if is_first else cue
                yield form.answer(text).rstrip()
                if is_answered:
                    yield cue
            else:
                turn = form.turn(text, is_first=is_first)
                yield turn if is_answered else turn.removesuffix(cue)
            is_first = False
        if not turns and asks:
            yield cue if opening else cue.lstrip()


class PlainTemplate:
    """No turns: the texts as they are, for a model that only goes on writing."""

    name = "plain"

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take the tokenizer of the model."""
        self._tokenizer = tokenizer

    def render(
        self, messages: Sequence[Message], *, goes_on: bool = False, asks: bool = True
    ) -> RenderedPrompt:
        """Return what the model reads; see `ChatTemplate.render`.

        An answer goes on from what stands before it; any other text begins after an empty line.
        """
        checked(messages, goes_on=goes_on)
        tokens: list[int] = []
        for number, message in enumerate(messages):
            is_first = number == 0 and not goes_on
            before = "" if is_first or message.role == "assistant" else "\n\n"
            tokens += self._tokenizer.encode(before + message.content)
        if not tokens and asks:
            raise _nothing_said(len(messages) - 1)
        return RenderedPrompt(tokens=tokens, stop=(), strips_space=False)


def _after_instructions(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages from the first one on that is no instruction."""
    for number, message in enumerate(messages):
        if message.role not in _INSTRUCTIONS:
            return messages[number:]
    return []


def _check_turn(number: int, message: Message) -> None:
    if message.role in _INSTRUCTIONS:
        param = f"messages[{number}].role"
        raise RequestError(
            f"`{param}` must not be {message.role!r} after the first turn: this model has its "
            "instructions before all turns; put them first",
            param=param,
        )
    if message.role == "user" and not message.content.strip():
        raise _nothing_said(number)


def _nothing_said(number: int) -> RequestError:
    param = f"messages[{number}].content"
    return RequestError(f"`{param}` must say something, but it is empty", param=param)
