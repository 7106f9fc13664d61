"""Work that one request can make long, done beside the event loop, on which all streams wait."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from starlette.responses import Response

T = TypeVar("T")

SHORT = 4096
"""Characters of a text, tokens, or values of JSON that are dealt with on the event loop: a few
milliseconds at most, as to go to a thread and back takes when others want Python's lock."""
BYTES_PER_VALUE = 16
"""How many bytes of JSON count as a value, where only these are known."""

_BLOCK = 64
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class WrittenJSON(bytes):
    """A part of a value for `json_bytes` that is JSON already.

    What it was written from can be dropped on the thread that wrote it: that takes long, too.
    """


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Return what a function does, called on a thread if it has much to do.

    Args:
        size: How much, in the units of `SHORT`.
        work: What it raises is raised here. On a thread it goes on when its waiter is cancelled.
    """
    return work() if size <= SHORT else await asyncio.to_thread(work)


async def json_response(size: int, value: Any) -> Response:
    """Return an answer of JSON, written off the event loop if it is long.

    Args:
        size: As for `off_loop`.
        value: As for `json_bytes`.
    """
    content = await off_loop(size, lambda: json_bytes(value))
    return Response(content, media_type="application/json")


def short_json(value: Any) -> bytes:
    """Return JSON, as short as it can be, of what is not long.

    Args:
        value: As for `json_bytes`.

    Raises:
        ValueError: As `json_bytes`.
    """
    return _ENCODER.encode(value).encode()


def json_bytes(value: Any) -> bytes:
    """Return JSON, as short as it can be, without holding Python's lock for long.

    The standard writer lets nobody else have it before it is done, on whatever thread that is; so
    long lists are written block by block.

    Args:
        value: Of dictionaries with texts as keys, lists, texts, finite numbers, booleans and None;
            dictionaries may hold `WrittenJSON`, and so may a list whose first item is one.

    Raises:
        ValueError: If a number is not finite, or a text has half a character.
    """
    return b"".join(_parts(value))


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, WrittenJSON):
        yield value
    elif isinstance(value, dict) and value:
        before = b"{"
        for name, each in value.items():
            yield before + short_json(name) + b":"
            yield from _parts(each)
            before = b","
        yield b"}"
    elif isinstance(value, list) and len(value) > _BLOCK and not isinstance(value[0], bytes):
        before = b"["
        for start in range(0, len(value), _BLOCK):
            yield before + short_json(value[start : start + _BLOCK])[1:-1]
            before = b","
            time.sleep(0)  # lets go of the lock, so that who waits for it need not wait its 5 ms
        yield b"]"
    elif isinstance(value, list) and any(isinstance(each, dict | list | bytes) for each in value):
        before = b"["
        for each in value:
            yield before
            yield from _parts(each)
            before = b","
        yield b"]"
    else:
        yield short_json(value)
