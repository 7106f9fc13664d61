"""JSON as the standard has it: what Python's reader forgives is refused."""

import json
import math
import re
from typing import Any

from receptance.errors import RequestError

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 64
_NOT_A_BRACKET = re.compile(r"[^\[\]{}]+")


def read_json(body: bytes, max_depth: int) -> Any:
    """Return what a body says.

    Args:
        body: Of a request; UTF-8.
        max_depth: Lists and objects that may stand within one another.

    Raises:
        RequestError: 400 if it is not UTF-8, not JSON, deeper than that, or has a key twice in one
            object, a number that is not finite, or half a character.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(f"the body must be UTF-8, but byte {error.start} is not") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except json.JSONDecodeError as error:
        raise _refusal(
            f"the body must be JSON, but is not at character {error.pos}: {error.msg}"
        ) from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    except ValueError:  # Python reads no integers of thousands of digits
        message = "a number must have fewer digits, but has thousands"
        raise _refusal(message) from None
    if depth_exceeds(text, max_depth):
        raise _too_deep(max_depth)
    if _SURROGATE.search(text) and _has_half_a_character(value):
        message = "a text must have whole characters, but has half of one (\\ud800 to \\udfff)"
        raise _refusal(message)
    return value


def depth_exceeds(text: str, max_depth: int) -> bool:
    """Return whether lists and objects stand deeper within one another, in what is JSON.

    Each round takes away the innermost pairs, so one is left after `max_depth` rounds if and only
    if there was more depth. No round depends on how the brackets are put.
    """
    if text.count("[") + text.count("{") <= max_depth:
        return False
    brackets = _NOT_A_BRACKET.sub("", _STRING.sub("", text)).translate({123: 91, 125: 93})
    for _ in range(max_depth):
        brackets = brackets.replace("[]", "")
        if not brackets:
            return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)[:_SHOWN]
        raise _refusal(f"an object must have each key once, but has {twice!r} again", param=twice)
    return found


def _constant(name: str) -> float:
    raise _refusal(f"a number must be finite, but one is {name}")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _refusal(f"a number must be below 1.8e308, but one is {digits[:_SHOWN]}")
    return value


def _has_half_a_character(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _too_deep(max_depth: int) -> RequestError:
    return _refusal(f"lists and objects must be at most {max_depth} deep, but are deeper")


def _refusal(message: str, *, param: str | None = None) -> RequestError:
    return RequestError(message, code="invalid_json", param=param)
