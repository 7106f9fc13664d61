"""What a request may bring: JSON, of a size and a depth, whole before the app sees it."""

from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receptance.errors import RequestError
from receptance.serving.off_loop import BYTES_PER_VALUE, off_loop
from receptance.serving.perimeter.headers import header_values
from receptance.serving.perimeter.strict_json import read_json
from receptance.serving.settings import Settings

RAW_PATHS = frozenset({"/v1/states/import"})
"""Where a body is a file, `application/octet-stream`."""

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_MOST_FIELDS = 256
"""More than any request has; each that is unknown takes time on the event loop."""
_SHOWN = 80


class Bodies:
    """Reads a request's body whole, refuses what is no JSON, and hands it on with its value.

    The value is `request.state.json`. That a POST says `application/json`, which no form of
    another's page can, is also what keeps those from calling in their reader's name.
    """

    def __init__(self, app: ASGIApp, settings: Settings, file_bytes: int) -> None:
        self._app = app
        self._settings = settings
        self._file_bytes = max(settings.max_body_bytes, file_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a body that is safe to look at.

        Raises:
            RequestError: 400, 413, 415 or 431, by what is wrong.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._check_header(scope)
        is_raw = scope["path"] in RAW_PATHS
        if scope["method"] not in _WITHOUT_BODY:
            _check_type(scope, "application/octet-stream" if is_raw else "application/json")
        max_bytes = self._file_bytes if is_raw else self._settings.max_body_bytes
        _check_length(scope, max_bytes)
        body = await _read(receive, max_bytes)
        if body is None:  # the client left
            return
        if body and not is_raw:
            scope["state"]["json"] = await self._value(body)
        await self._app(scope, _replay(body, receive), send)

    async def _value(self, body: bytes) -> Any:
        read = partial(
            read_json,
            body,
            max_depth=self._settings.max_json_depth,
            max_containers=self._settings.max_json_containers,
        )
        value = await off_loop(len(body) // BYTES_PER_VALUE, read)
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            message = f"a request must have at most {_MOST_FIELDS} fields, but it has {len(value)}"
            raise RequestError(message, code="too_many_fields")
        return value

    def _check_header(self, scope: Scope) -> None:
        """Refuse a header that came at once, which the reader of HTTP does not measure."""
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self._settings.max_header_bytes:
            message = (
                f"a header must have at most {self._settings.max_header_bytes} bytes, "
                f"but has {size}"
            )
            raise RequestError(message, status=431, code="header_too_large")


def _check_length(scope: Scope, max_bytes: int) -> None:
    if header_values(scope, b"content-encoding") not in ([], [b"identity"]):
        message = "a body must not be compressed, but this one is; send it as it is"
        raise RequestError(message, status=415, code="unsupported_encoding")
    for length in header_values(scope, b"content-length"):
        if not length.isdigit():
            raise RequestError(f"`content-length` must be digits, but is {length[:20]!r}")
        # A number of so many digits need not be read to be too large.
        if len(length) > 18 or int(length) > max_bytes:
            raise _too_large(max_bytes)


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """Return the body, or None if the client left before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> RequestError:
    message = f"a body must have at most {limit} bytes, but has more; send less at once"
    return RequestError(message, status=413, code="body_too_large")


def _check_type(scope: Scope, wanted: str) -> None:
    types = header_values(scope, b"content-type")
    name, _, parameters = (types[0] if len(types) == 1 else b"").decode("latin-1").partition(";")
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if name.strip().lower() != wanted or charset not in ("", "charset=utf-8"):
        told = b", ".join(types).decode("latin-1")
        was = f"it is {told[:_SHOWN]!r}" if types else "there is none"
        message = f"`content-type` must be {wanted}, in UTF-8 if it is text, but {was}"
        raise RequestError(message, status=415, code="unsupported_media_type")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once, and then says when the client leaves."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
