"""A template that came with a model: a program of others, run in confinement."""

import json
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from receptance.errors import CheckpointError, RequestError
from receptance.serving.chat.frame import learn_frame
from receptance.serving.chat.template import (
    Message,
    RenderedPrompt,
    checked,
    without_empty_lines,
)
from receptance.serving.confinement import Confined, ConfinedError
from receptance.tokenizer import Tokenizer

TEMPLATE_FILE = "chat_template.jinja"
_CONFIG_FILE = "tokenizer_config.json"
_MAX_SOURCE_CHARACTERS = 64 * 1024
_MAX_CONFIG_BYTES = 16 * 2**20
# Time and memory for one conversation; and what a template may write beside what was said.
_SECONDS = 0.3
_MEGABYTES = 64
_MAX_WRITTEN_CHARACTERS = 64 * 1024
_MAX_WRITTEN_PER_MESSAGE = 256


class FolderTemplate:
    """The template of a model folder, in jinja as Hugging Face has it.

    It is given `messages` of `role` and `content`, `add_generation_prompt`, `bos_token` and
    `eos_token`, which are the token that ends a text; nothing that a request says becomes a
    variable. A state is gone on from as if an exchange had come before.
    """

    name = "model"

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Try the template.

        Args:
            source: The program.
            tokenizer: Of the model.

        Raises:
            CheckpointError: If it is too long, fails, takes too much, or loses what is said.
        """
        if len(source) > _MAX_SOURCE_CHARACTERS:
            raise CheckpointError(
                f"a model's chat template must have at most {_MAX_SOURCE_CHARACTERS} characters, "
                f"but it has {len(source)}; name a format by --chat-template"
            )
        self._source = source
        self._tokenizer = tokenizer
        self._confined = Confined("template", seconds=_SECONDS, megabytes=_MEGABYTES)
        # A text cannot hold what it cannot know.
        self._end_of_text = f"\ue000{token_hex(16)}\ue001"
        try:
            self._frame = learn_frame(self._write, self._end_of_text)
        except ValueError as error:
            raise CheckpointError(
                f"the model's chat template cannot be used: {error}; name a format by "
                "--chat-template"
            ) from error

    def render(
        self, messages: Sequence[Message], *, goes_on: bool = False, asks: bool = True
    ) -> RenderedPrompt:
        """Return what the model reads; see `ChatTemplate.render`."""
        checked(messages, goes_on=goes_on)
        texts = [self._text(number, message) for number, message in enumerate(messages)]
        said = [Message(each.role, text) for each, text in zip(messages, texts, strict=True)]
        mark = f"mark{token_hex(8)}"
        before = [Message("user", mark), Message("assistant", mark)] if goes_on else []
        try:
            written = self._write([*before, *said], asks)
        except ValueError as error:
            message = f"the model's chat template does not take these messages: {error}"
            raise RequestError(message, code="template_error", param="messages") from error
        if goes_on:
            written = written.rpartition(mark)[2]
        tokens = [token for part in self._parts(written, said, asks) for token in self._ids(part)]
        frame = self._frame
        return RenderedPrompt(tokens=tokens, stop=frame.stop, strips_space=frame.strips_space)

    def close(self) -> None:
        """End the child process that runs the template; the next conversation begins another."""
        self._confined.close()

    def _text(self, number: int, message: Message) -> str:
        """Return what a message says, if it says nothing that only the template may."""
        text = message.content
        if self._frame.is_parted_by_empty_lines:
            text = without_empty_lines(text).strip()
        forged = self._frame.forgery and self._frame.forgery.search(text)
        if forged:
            param = f"messages[{number}].content"
            raise RequestError(
                f"`{param}` must not hold what parts the turns of this model, but it holds "
                f"{forged[0].strip()!r}; write it differently",
                code="forged_turn",
                param=param,
            )
        return text

    def _parts(self, written: str, said: Sequence[Message], asks: bool) -> list[str]:
        """Return the text parted where an earlier prompt ended: after each cue for an answer."""
        cue = self._frame.cue
        parts: list[str] = []
        begin = place = 0
        for message in said:
            text = message.content.strip()
            found = written.find(text, place)
            if found < 0:  # the template changes texts, and where they end cannot be told
                return [*parts, written[begin:]]
            if message.role == "assistant" and cue:
                after_cue = written.rfind(cue, place, found) + len(cue)
                if after_cue >= len(cue) and not written[after_cue:found].strip():
                    parts.append(written[begin:after_cue])
                    begin = after_cue
            place = found + len(text)
        # Turns that nobody answers end with what was said, as a state after an answer does.
        return [*parts, written[begin:] if asks else written[begin:place]]

    def _ids(self, text: str) -> list[int]:
        first, *others = text.split(self._end_of_text)
        tokens = self._tokenizer.encode(first)
        for other in others:
            tokens += [self._tokenizer.end_of_text, *self._tokenizer.encode(other)]
        return tokens

    def _write(self, messages: Sequence[Message], asks: bool) -> str:
        """Return what the template writes.

        Raises:
            ValueError: If it fails or takes too much.
        """
        variables: dict[str, Any] = {
            "messages": [{"role": each.role, "content": each.content} for each in messages],
            "add_generation_prompt": asks,
            "bos_token": self._end_of_text,
            "eos_token": self._end_of_text,
        }
        most = _MAX_WRITTEN_CHARACTERS + sum(
            len(each.content) + _MAX_WRITTEN_PER_MESSAGE for each in messages
        )
        try:
            return self._confined.ask(source=self._source, variables=variables, max_characters=most)
        except ConfinedError as error:
            raise ValueError(str(error)) from error


def read_template(folder: Path) -> str | None:
    """Return the template in a model folder; None if there is none.

    Args:
        folder: Of a model. `chat_template.jinja` counts before `tokenizer_config.json`.

    Raises:
        CheckpointError: If a file is too large, or not what its name says.
        OSError: If a file cannot be read.
    """
    file, config_file = folder / TEMPLATE_FILE, folder / _CONFIG_FILE
    try:
        if file.is_file():
            return _read(file, 4 * _MAX_SOURCE_CHARACTERS)
        if not config_file.is_file():
            return None
        config = json.loads(_read(config_file, _MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        message = f"the chat template in {str(folder)!r} must be text, but it cannot be read"
        raise CheckpointError(message) from error
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, list):  # several, by their names
        named = [each for each in template if isinstance(each, dict)]
        template = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return template if isinstance(template, str) and template else None


def _read(file: Path, most: int) -> str:
    if file.stat().st_size > most:
        raise CheckpointError(f"{file.name} must have at most {most} bytes, but it has more")
    return file.read_text(encoding="utf-8")
