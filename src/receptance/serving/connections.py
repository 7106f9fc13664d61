"""What a connection may do before and after its request: how long it takes, and how many there are.

uvicorn waits for ever for the rest of a header or a body, and for a client that does not read.
Here each of these has a limit, and so have connections, in all and of one address.
"""

import asyncio
import fcntl
import sys
import termios
from collections import Counter
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from receptance.errors import RequestError
from receptance.serving.perimeter.answers import (
    UnreadError,
    error_messages,
    new_request_id,
    with_safe_headers,
)
from receptance.serving.settings import LEAST_BYTES_PER_SECOND, Settings

LINGER_SECONDS = 2.0
"""How long a refused client may go on sending, and an ended connection take to be read.

Who is cut off at once loses the answer that says why.
"""

_LENGTHS = (b"content-length", b"transfer-encoding")


def guarded(settings: Settings) -> Callable[..., asyncio.Protocol]:
    """Return what makes the protocol of each connection; all share one count.

    Args:
        settings: The limits.
    """
    return partial(GuardedConnection, settings=settings, count=_Count(settings))


class GuardedConnection(H11Protocol):
    """A connection of HTTP/1.1 that is closed when it takes too long."""

    def __init__(self, *args: Any, settings: Settings, count: "_Count", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = partial(self._answer, self.app)
        self._settings = settings
        self._count = count
        self._network: str | None = None
        self._is_counted = False
        self._has_received = False
        # "header", "body" or "linger", which have an end; "answer" and "idle" are timed elsewhere.
        self._phase = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header, or refuse a connection that is one too many."""
        super().connection_made(transport)
        self._network = _network_of(self.client)
        refusal = self._count.refusal(self._network)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._count.enter(self._network)
        self._is_counted = True
        self._enter("header", self._settings.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._enter("closed", None)
        self._stop_waiting_for_reader()
        if self._is_counted:
            self._is_counted = False
            self._count.leave(self._network)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for the rest for as long as there is left."""
        if self.transport.is_closing():
            return
        if self._phase == "idle":
            self._enter("header", self._settings.header_seconds)
        self._has_received = True
        super().data_received(data)
        self._refuse_two_lengths()
        if self.transport.is_closing():
            return
        if self._phase == "linger" and self.conn.our_state is h11.DONE:
            return
        if self._phase == "linger" and self.conn.their_state is h11.IDLE:
            # The rest of a body that was refused has come: the connection is as good as new.
            self.on_response_complete()
        else:
            self._follow_request()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of one that was answered before it came."""
        # What is too much of a body is dropped for a while, as its sender does not yet listen.
        if self.conn.their_state is h11.SEND_BODY:
            self._enter("linger", LINGER_SECONDS)
        else:
            self._has_received = False
            self._enter("idle", None)
        super().on_response_complete()
        self._refuse_two_lengths()
        if self.transport.is_closing():
            self._close(self._settings.backlog_seconds)
        elif self._phase == "idle":
            # What came behind the last request has been taken in by now, and need not be whole.
            if self.conn.trailing_data[0]:
                self._has_received = True
                self._unset_keepalive_if_required()
                self._enter("header", self._settings.header_seconds)
            self._follow_request()

    def pause_writing(self) -> None:
        """Give a client that does not read some time to do so."""
        super().pause_writing()
        if self._reader_deadline is None:
            self._wait_for_reader()

    def resume_writing(self) -> None:
        """Go on, as the client reads."""
        # The end of a connection that closes has to be read too.
        if not self.transport.is_closing():
            self._stop_waiting_for_reader()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no further request came."""
        super().timeout_keep_alive_handler()
        self._close(LINGER_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or a header that is too long."""
        del msg
        limit = self._settings.max_header_bytes
        if len(self.conn.trailing_data[0]) > limit:
            message = f"a header must have at most {limit} bytes, but has more"
            self._refuse(RequestError(message, status=431, code="header_too_large"))
        else:
            message = "a request must be HTTP/1.1, but this one is not"
            self._refuse(RequestError(message, code="invalid_http"))

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer, and cut off a client that does not read, as the app found.

        To uvicorn, an answer without its end is a failure unless nobody is there any more.
        """
        try:
            await app(scope, receive, send)
        except UnreadError:
            self.transport.abort()
            while (await receive())["type"] != "http.disconnect":
                pass

    def _refuse_two_lengths(self) -> None:
        """Refuse a request whose end a proxy before us may have seen elsewhere.

        What came behind it could be taken for the request of another client. The app has not run
        yet, and is told that nobody is there.
        """
        if self.cycle is None or self.cycle.response_started or self.transport.is_closing():
            return
        names = [name for name, _ in self.headers if name in _LENGTHS]
        is_old = self.scope["http_version"] != "1.1" and b"transfer-encoding" in names
        if len(names) > 1 or is_old:
            message = "a request must have one of `content-length` and `transfer-encoding`"
            self._refuse(RequestError(message, code="invalid_http"))

    def _follow_request(self) -> None:
        """Enter the phase of a request whose header has come."""
        their_state = self.conn.their_state
        if their_state is h11.SEND_BODY:
            self._has_received = True
            self._enter("body", self._settings.body_seconds)
        elif their_state in (h11.DONE, h11.MUST_CLOSE):
            self._has_received = True
            self._enter("answer", None)

    def _enter(self, phase: str, seconds: float | None) -> None:
        """Begin a phase, which ends after some seconds; one that has begun goes on."""
        if phase == self._phase:
            return
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._end_phase)

    def _end_phase(self) -> None:
        if self.transport.is_closing():
            return
        if self._phase == "linger" or not self._has_received:
            self._close(LINGER_SECONDS)
            return
        message = f"the {self._phase} of a request must come in time, but it did not"
        self._refuse(RequestError(message, status=408, code=f"{self._phase}_timeout"))

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            start, body = error_messages(error)
            headers = with_safe_headers(start["headers"], new_request_id())
            response = h11.Response(
                status_code=start["status"], headers=[*headers, (b"connection", b"close")]
            )
            for event in (response, h11.Data(data=body["body"]), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        # The app, if it waits for the rest of the body, is told that nobody is there.
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._close(LINGER_SECONDS)

    def _close(self, seconds: float) -> None:
        """Close when all is sent, or after some seconds unless a long answer is being read."""
        self._enter("closed", None)
        self.transport.close()
        if self._reader_deadline is None:
            self.loop.call_later(seconds, self.transport.abort)

    def _wait_for_reader(self) -> None:
        self._reader_deadline = self.loop.call_later(
            self._settings.backlog_seconds, self._end_wait, self._n_unread()
        )

    def _end_wait(self, n_before: int) -> None:
        """Cut off a client that has read too little meanwhile; wait on for one that reads."""
        least = LEAST_BYTES_PER_SECOND * self._settings.backlog_seconds
        if n_before - self._n_unread() < least:
            self.transport.abort()
        else:
            self._wait_for_reader()

    def _n_unread(self) -> int:
        """Return how many bytes the client has yet to take, the system's share with ours.

        Linux takes ours a megabyte at a time, which hides for long that a slow client reads.
        """
        n = self.transport.get_write_buffer_size()
        if sys.platform == "linux":
            held = fcntl.ioctl(
                self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4)
            )
            n += int.from_bytes(held, sys.byteorder)
        return n

    def _stop_waiting_for_reader(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None


class _Count:
    """How many connections there are, in all and from each network."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._of_network: Counter[str] = Counter()
        self._n = 0

    def refusal(self, network: str | None) -> RequestError | None:
        """Return why one more is one too many, or None."""
        if self._n >= self._settings.max_connections:
            message = "the server has as many connections as it takes; come again"
            return RequestError(message, status=503, code="too_many_connections", retry_after=1.0)
        if network and self._of_network[network] >= self._settings.max_connections_per_address:
            message = "one address has as many connections as it may; close some, or come again"
            return RequestError(message, status=429, code="too_many_connections", retry_after=1.0)
        return None

    def enter(self, network: str | None) -> None:
        self._n += 1
        if network:
            self._of_network[network] += 1

    def leave(self, network: str | None) -> None:
        self._n -= 1
        if network:
            self._of_network[network] -= 1
            if not self._of_network[network]:
                del self._of_network[network]


def _network_of(client: tuple[str, int] | None) -> str | None:
    """Return whose a connection is: an address, or the 2**64 of IPv6 that one customer has.

    A socket file has no addresses.
    """
    if client is None:
        return None
    try:
        address = ip_address(client[0].partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{int(address) >> 64:x}/64"
    return str(address)
