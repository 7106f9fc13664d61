"""How the turns of a conversation are written: to be read by a model, and to train one.

The convention is that of the authors' chat code, which RWKV-4 models were tuned on:

    User: What is a state?
                                          (an empty line ends a turn)
    Assistant: All that I remember.

No turn has an empty line within it, and there is no space after the colon that the model is to
go on from: the tokens of the World and the GPT-NeoX vocabulary begin with their space. Source:
BlinkDL/ChatRWKV, v2/chat.py.
"""

import re
from dataclasses import dataclass

_EMPTY_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """How turns are written for the model to read."""

    user: str = "User"
    assistant: str = "Assistant"

    @property
    def stop(self) -> str:
        """The text that shows that the model's turn is over: it writes the user's next one."""
        return f"\n\n{self.user}"

    def clean(self, text: str) -> str:
        """Return the text without what would end its turn: empty lines, and space around it."""
        text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
        return _EMPTY_LINES.sub("\n", text)

    def opening(self, system: str) -> str:
        """Return what stands before the first turn: instructions, or nothing."""
        return self.clean(system)

    def turn(self, text: str, *, is_first: bool) -> str:
        """Return the user's turn, up to where the model goes on.

        Args:
            text: What the user says.
            is_first: Whether nothing stands before it.
        """
        before = "" if is_first else "\n\n"
        return f"{before}{self.user}: {self.clean(text)}\n\n{self.assistant}:"

    def answer(self, text: str) -> str:
        """Return the model's turn, as the model writes it after `turn`.

        Args:
            text: What the model is to say.
        """
        return f" {self.clean(text)}"


CHAT_FORMATS = {
    "world": ChatFormat(),
    "raven": ChatFormat(user="Bob", assistant="Alice"),
    "qa": ChatFormat(user="Question", assistant="Answer"),
}
"""The formats that the published models were tuned on, by name; the first is the default."""


def find_chat_format(name: str) -> ChatFormat:
    """Return the format of a name.

    Raises:
        ValueError: If no format has this name.
    """
    if name not in CHAT_FORMATS:
        raise ValueError(f"`chat_format` must be one of {', '.join(CHAT_FORMATS)}, got {name!r}")
    return CHAT_FORMATS[name]
