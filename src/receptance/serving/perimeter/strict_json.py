"""JSON as the standard has it: what Python's reader forgives is refused."""

import json
import math
import re
from typing import Any

import numpy as np

from receptance.errors import RequestError

# One that nothing ends goes to the end: to look for its end from each quote would take for ever.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 64


def read_json(body: bytes, *, max_depth: int, max_containers: int) -> Any:
    """Return what a body says.

    Args:
        body: Of a request; UTF-8.
        max_depth: Lists and objects that may stand within one another.
        max_containers: Lists and objects in all: each costs far more than a byte.

    Raises:
        RequestError: 400 if it is not UTF-8, not JSON, more than that, or has a key twice in one
            object, a number that is not finite, or half a character.
    """
    containers, depth = containers_and_depth(body)
    if depth > max_depth:
        raise _refusal(f"lists and objects must be at most {max_depth} deep, but are deeper")
    if containers > max_containers:
        raise _refusal(f"a body must have at most {max_containers} lists and objects, but has more")
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
    except ValueError:  # Python reads no integers of thousands of digits
        message = "a number must have fewer digits, but has thousands"
        raise _refusal(message) from None
    if _SURROGATE.search(text) and _has_half_a_character(value):
        message = "a text must have whole characters, but has half of one (\\ud800 to \\udfff)"
        raise _refusal(message)
    return value


def containers_and_depth(body: bytes) -> tuple[int, int]:
    """Return how many lists and objects JSON has, and how deep they are within one another.

    What is no JSON is read as far as it is like it: nothing that Python's reader meets is deeper.
    """
    if body.count(b"[") + body.count(b"{") <= 1:
        return 1, 1
    brackets = np.frombuffer(_STRING.sub(b"", body).translate(None, _NOT_BRACKETS), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    depths = np.cumsum(opens.astype(np.int8) * 2 - 1, dtype=np.int32)
    return int(opens.sum()), int(depths.max(initial=0))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))[:_SHOWN]
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


def _refusal(message: str, *, param: str | None = None) -> RequestError:
    return RequestError(message, code="invalid_json", param=param)
