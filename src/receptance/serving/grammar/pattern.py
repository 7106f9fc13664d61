"""How large a regular expression is, before anybody else reads it."""

import re

from receptance.errors import RequestError

_MAX_CHARACTERS = 4096
MAX_PARTS = 10_000
"""Characters and classes of an expression, repetitions written out."""

_ESCAPE = re.compile(r"\\(?:[pPx]\{[^}]*\}|u\{[^}]*\}|.)", re.DOTALL)
_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_MOST = 10**9


def check_pattern(pattern: str, param: str) -> int:
    """Return how many parts an expression has, if it is not too large.

    What is no expression at all may pass; it is counted, not understood.

    Args:
        pattern: In the syntax of Rust's `regex`.
        param: Where it stands in the request.

    Raises:
        RequestError: If it has more than 4096 characters, or more than `MAX_PARTS` parts.
    """
    if len(pattern) > _MAX_CHARACTERS:
        raise RequestError(
            f"`{param}` must have at most {_MAX_CHARACTERS} characters, but it has {len(pattern)}",
            param=param,
        )
    n_parts = _n_parts(pattern)
    if n_parts > MAX_PARTS:
        raise RequestError(
            f"`{param}` must have at most {MAX_PARTS} parts when its repetitions are written out, "
            "but it has more; repeat less",
            param=param,
        )
    return n_parts


def _n_parts(pattern: str) -> int:
    groups = [0]  # the parts of each group that is open
    last = 0  # those of what a repetition would repeat
    place = 0
    while place < len(pattern):
        character = pattern[place]
        place += 1
        if character == "(":
            groups.append(0)
            last = 0
        elif character == ")":
            last = groups.pop() if len(groups) > 1 else 0
            groups[-1] += last
        elif character == "{" and (count := _COUNT.match(pattern, place - 1)):
            place = count.end()
            times = max((_number(each) for each in count.groups() if each), default=1)
            groups[-1] += last * (max(times, 1) - 1)
            last *= max(times, 1)
        elif character not in "*+?|^$":
            place = _after(pattern, place - 1)
            groups[-1] += 1
            last = 1
    return sum(groups)


def _number(digits: str) -> int:
    return min(int(digits), _MOST) if len(digits) <= 9 else _MOST


def _after(pattern: str, place: int) -> int:
    """Return where the escape, class or character at a place ends."""
    escape = _ESCAPE.match(pattern, place)
    if escape:
        return escape.end()
    if pattern[place] != "[":
        return place + 1
    depth = 0
    while place < len(pattern):
        escape = _ESCAPE.match(pattern, place)
        if escape:
            place = escape.end()
            continue
        depth += {"[": 1, "]": -1}.get(pattern[place], 0)
        place += 1
        if depth == 0:
            break
    return place
