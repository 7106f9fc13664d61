"""The outermost layer: every answer has an id and safe headers, and every failure our form."""

import json
import logging
import secrets
import time
import traceback
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receptance.errors import RequestError
from receptance.serving.error_form import error_body, error_headers

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("receptance.serving.requests")

# An answer is data: not to be guessed at, framed, cached or run. A page says otherwise for itself.
_ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
_UNLESS_SAID = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}


def new_request_id() -> str:
    """Return a name for a request that nobody can guess or choose."""
    return f"req_{secrets.token_hex(12)}"


def with_safe_headers(
    headers: Iterable[tuple[bytes, bytes]], request_id: str
) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with its id and with those that keep a browser from harm."""
    said = [
        (name, value)
        for name, value in ((name.lower(), value) for name, value in headers)
        if name not in _ALWAYS and name != b"x-request-id"
    ]
    names = {name for name, _ in said}
    unsaid = [(name, value) for name, value in _UNLESS_SAID.items() if name not in names]
    return [*said, *unsaid, *_ALWAYS.items(), (b"x-request-id", request_id.encode())]


def error_messages(error: RequestError) -> list[Message]:
    """Return the messages to send for an error."""
    body = error_body(error)
    headers = {**error_headers(error), "content-length": str(len(body))}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return [
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        },
        {"type": "http.response.body", "body": body},
    ]


class UnreadError(TimeoutError):
    """The client does not read, and so need not be told either: its connection is to be cut off."""


class Answers:
    """Gives each request an id of ours, and each answer this id, safe headers and a log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; whatever is raised before an answer begins becomes one.

        Raises:
            UnreadError: If the app found that; whoever has the connection cuts it off.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = new_request_id()
        more_headers: list[tuple[bytes, bytes]] = []
        state = {
            **scope.get("state", {}),
            "request_id": request_id,
            "owner": "anonymous",
            "answer_headers": more_headers,  # what a layer within adds, to errors too
        }
        # A HEAD is the GET whose body stays here.
        inner = {**scope, "state": state}
        if scope["method"] == "HEAD":
            inner["method"] = "GET"
        answer = _Answer(send, scope["method"], request_id, more_headers)
        began = time.perf_counter()
        try:
            await self._app(inner, receive, answer.send)
        except RequestError as error:
            await answer.fail(error)
        except UnreadError:  # no failure of ours: the log has a line of the request, and no more
            raise
        except Exception as error:  # noqa: BLE001  # a client is told in our form, whatever it is
            _log_failure(request_id, error)
            await answer.fail(_default_error(500))
        finally:
            access_logger.info(
                "%s %s %s %s %s %d %.1f ms",
                request_id,
                state["owner"],
                _address_of(scope),
                scope["method"] if scope["method"].isalpha() else "?",
                quote(scope["path"], safe="/:@!$&'()*+,;=-._~", errors="replace"),
                answer.status,
                1000 * (time.perf_counter() - began),
            )


def _address_of(scope: Scope) -> str:
    """Return from where a request came: the proxy, if there is one; a socket file has nothing."""
    host = (scope.get("client") or ("-", 0))[0]
    return quote(str(host), safe=":.%-")


class _Answer:
    """One answer on its way out."""

    def __init__(
        self,
        send: Send,
        method: str,
        request_id: str,
        more_headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._send = send
        self._method = method
        self._request_id = request_id
        self._more_headers = more_headers
        self._held: list[Message] = []
        self.status = 0
        """Of HTTP; 0 until it begins."""

    async def send(self, message: Message) -> None:
        """Send a message of ASGI on, with what every answer has.

        An error is held until it is whole: a framework's own does not have our form.
        """
        if self._held or (message["type"] == "http.response.start" and message["status"] >= 400):
            self._held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                for each in self._in_our_form():
                    await self._send_on(each)
        else:
            await self._send_on(message)

    async def fail(self, error: RequestError) -> None:
        """Send an error; where the answer had begun it ends unfinished, which the client sees."""
        if not self.status:
            for message in error_messages(error):
                await self._send_on(message)

    def _in_our_form(self) -> list[Message]:
        start, *bodies = self._held
        self._held = []
        headers = [(name.lower(), value) for name, value in start.get("headers", [])]
        kept = [(name, value) for name, value in headers if not name.startswith(b"content-")]
        if self._method == "OPTIONS" and start["status"] == 405:
            allowed = [(n, value + b", OPTIONS") for n, value in kept if n == b"allow"]
            return [{**start, "status": 204, "headers": allowed}, {"type": "http.response.body"}]
        if _is_in_our_form(b"".join(each.get("body", b"") for each in bodies)):
            return [start, *bodies]
        ours, body = error_messages(_default_error(start["status"]))
        return [{**ours, "headers": [*ours["headers"], *kept]}, body]

    async def _send_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), *self._more_headers]
            headers = with_safe_headers(headers, self._request_id)
            message = {**message, "headers": headers}
        elif self._method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)


def _is_in_our_form(body: bytes) -> bool:
    try:
        content = json.loads(body)
    except ValueError:
        return False
    return isinstance(content, dict) and isinstance(content.get("error"), dict)


def _default_error(status: int) -> RequestError:
    """Return what to say of a status where nobody said more."""
    if status >= 500:
        return RequestError("the server failed; the request may be right", status=status)
    if status == 404:
        return RequestError("there is nothing at this path", status=404, code="not_found")
    if status == 405:
        message = "the method must be one that this path takes; the header `allow` lists them"
        return RequestError(message, status=405, code="method_not_allowed")
    # A framework's own check of a request is told as what it is: the request is wrong.
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "refused"
    return RequestError(
        f"the request cannot be taken: {phrase}", status=400 if status == 422 else status
    )


def _log_failure(request_id: str, error: Exception) -> None:
    """Log where something failed, without its message, which may quote what a client wrote."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s failed with %s\n%s", request_id, type(error).__name__, frames)
