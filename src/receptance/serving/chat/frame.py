"""What a model's own template writes around the texts, learnt from a conversation of marks.

From it follow where an answer begins and ends, and what no text may hold, lest it forge a turn.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex

from receptance.serving.chat.template import Message

Write = Callable[[Sequence[Message], bool], str]
"""Writes a conversation by the template, with the cue for an answer or without."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What stands around the texts of a conversation."""

    cue: str
    """What an answer is asked for by: all between the last text and the answer's first token."""
    stop: tuple[str, ...]
    """What shows that an answer is over."""
    strips_space: bool
    """Whether a template writes a space before an answer that it does not ask for it with."""
    is_parted_by_empty_lines: bool
    """Whether an empty line within a text would end its turn."""
    forgery: re.Pattern[str] | None
    """Finds in a text what only the template may write."""


def learn_frame(write: Write, end_of_text: str) -> Frame:
    """Return what a template writes around the texts.

    Args:
        write: The template.
        end_of_text: What it writes where a text ends: not to be looked for as text.

    Raises:
        ValueError: If what the messages say is not in what it writes, in their order.
    """
    marks = [f"mark{token_hex(8)}" for _ in range(4)]
    roles = ("system", "user", "assistant", "user")
    probe = [Message(role, mark) for role, mark in zip(roles, marks, strict=True)]
    try:
        pieces = _around(write(probe, True), marks)
    except ValueError:  # many take no instructions
        pieces = _around(write(probe[1:], True), marks[1:])
    before_answer, after_answer, cue = pieces[-3:]
    own_space = before_answer.removeprefix(cue)
    is_parted = bool(re.search(r"\n\s*\n", after_answer))
    return Frame(
        cue=cue,
        stop=_stop(after_answer, end_of_text),
        strips_space=before_answer.startswith(cue) and own_space.isspace(),
        is_parted_by_empty_lines=is_parted,
        forgery=_forgery([piece.replace(end_of_text, "") for piece in pieces], is_parted),
    )


def _around(text: str, marks: Sequence[str]) -> list[str]:
    pieces: list[str] = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found:
            message = "a chat template must write what every message says, once and in order"
            raise ValueError(message)
        pieces.append(piece)
    return [*pieces, text]


def _stop(after_answer: str, end_of_text: str) -> tuple[str, ...]:
    """Return the first line that follows an answer; where the text ends, nothing needs to."""
    if after_answer.lstrip().startswith(end_of_text):
        return ()
    first = re.match(r"\s*\S[^\n]*", after_answer)
    if first is None:
        return ()
    return (first[0].partition(end_of_text)[0].rstrip(),)


def _forgery(pieces: Sequence[str], is_parted: bool) -> re.Pattern[str] | None:
    """Return what finds the lines of a template in a text.

    A line such as "User:" counts only where a line begins, if it does so in the template; and not
    at all if an empty line stands before it there, since no text keeps one.
    """
    anywhere: set[str] = set()
    at_line_start: set[str] = set()
    for number, piece in enumerate(pieces):
        lines = piece.split("\n")
        for place, line in enumerate(lines):
            mark = line.strip()
            if len(mark) < 2:
                continue
            begins_line = place > 0 or number == 0
            follows_empty_line = (place > 1 and not lines[place - 1].strip()) or number == 0
            if not mark[0].isalnum() or not begins_line:
                anywhere.add(mark)
            elif not (is_parted and follows_empty_line):
                at_line_start.add(mark)
    alternatives = [re.escape(mark) for mark in sorted(anywhere, key=len, reverse=True)]
    alternatives += [rf"(?m:^)[^\S\n]*{re.escape(mark)}" for mark in sorted(at_line_start)]
    return re.compile("|".join(alternatives)) if alternatives else None
