"""Answers to clients that may leave: whatever was begun for one ends when it does."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receptance.errors import RequestError
from receptance.serving.engine_room import first_deadline
from receptance.serving.error_form import error_object
from receptance.serving.perimeter import UnreadError
from receptance.serving.protocol import PING, event
from receptance.serving.settings import LEAST_BYTES_PER_SECOND, Settings

T = TypeVar("T")

_LEFT = "the client left before the answer"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_START = {"type": "http.response.start", "status": 200, "headers": _HEADERS}


async def unless_left(
    request: Request, work: Coroutine[Any, Any, T], leave: Callable[[], None]
) -> T:
    """Return what `work` does, unless the client leaves before.

    Args:
        request: Whose body was read.
        work: What the answer takes; it is cancelled if the client leaves.
        leave: Ends what was begun elsewhere for the client, if it did not end by itself.

    Raises:
        RequestError: 499, which nobody reads, if the client left.
    """
    worker = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_until_left(request.receive))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            return worker.result()
        raise RequestError(_LEFT, status=499, code="client_left")
    finally:
        leave()
        await _cancelled(worker, watcher)


async def begun(
    request: Request,
    work: Coroutine[Any, Any, T],
    *,
    leave: Callable[[T], None],
    settings: Settings,
) -> T:
    """Return what `work` begins elsewhere, unless the client leaves before, or its turn is late.

    Args:
        request: Whose body was read.
        work: All that comes before the engine: grammars, templates, tokens; it is cancelled if
            nobody wants it any more.
        leave: Ends what was begun, if nobody wants it by then.
        settings: How long a request may wait.

    Raises:
        RequestError: 499, which nobody reads, if the client left; 503 or 408 at the deadline.
    """
    worker = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_until_left(request.receive))
    seconds, late = first_deadline(settings)
    try:
        tasks = {worker, watcher}
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            await _cancelled(watcher)
            return worker.result()
    except BaseException:
        await _dropped(worker, watcher, leave)
        raise
    has_left = watcher.done()
    await _dropped(worker, watcher, leave)
    raise RequestError(_LEFT, status=499, code="client_left") if has_left else late


async def _dropped(
    worker: "asyncio.Future[T]", watcher: "asyncio.Future[None]", leave: Callable[[T], None]
) -> None:
    """End what begins something, and what it may have begun all the same."""
    await _cancelled(worker, watcher)
    if not worker.cancelled() and worker.exception() is None:
        leave(worker.result())


class EventStream(Response):
    """A stream of events.

    It begins with its first event, so that what fails before is an answer with a status. What
    fails later is an event, behind which the stream ends without its usual end. Where nothing was
    sent for `Settings.ping_seconds`, there is a comment.

    All waits for the client together may take `Settings.backlog_seconds`, and what the bytes take
    of who reads `LEAST_BYTES_PER_SECOND`. So who reads slowly but steadily is not cut off, however
    large one block is, and who takes a little now and then is.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        leave: Callable[[], None],
        settings: Settings,
    ) -> None:
        """Take what is to be sent.

        Args:
            events: Blocks of whole events.
            leave: Ends what makes the events, if it did not end by itself.
            settings: How long to wait for what.
        """
        super().__init__()
        self._events = events
        self._leave = leave
        self._settings = settings
        self._is_begun = False
        self._sent_at = 0.0
        self._n_bytes = 0
        self._waited_seconds = 0.0
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events, or as many as the client stays for.

        Raises:
            RequestError: If the first event can not be made.
            UnreadError: If the client does not read; then the connection is of no more use.
        """
        del scope
        self._sent_at = asyncio.get_running_loop().time()
        writer = asyncio.ensure_future(self._write(send))
        watcher = asyncio.ensure_future(_until_left(receive))
        pinger = asyncio.ensure_future(self._ping(send))
        try:
            await asyncio.wait({writer, watcher, pinger}, return_when=asyncio.FIRST_COMPLETED)
            for task in (writer, pinger):
                if task.done():
                    task.result()
        finally:
            self._leave()
            await _cancelled(writer, watcher, pinger)
            await self._events.aclose()

    async def _write(self, send: Send) -> None:
        try:
            async for block in self._events:
                await self._send(send, block)
        except RequestError as error:
            if not self._is_begun:
                raise
            await self._send(send, event(error_object(error)))
        except UnreadError:
            raise
        except Exception:
            if self._is_begun:
                error = RequestError("the server failed", status=500, code="internal_error")
                await self._send(send, event(error_object(error)))
            raise
        await self._send(send, b"", is_last=True)

    async def _ping(self, send: Send) -> None:
        loop, seconds = asyncio.get_running_loop(), self._settings.ping_seconds
        while True:
            await asyncio.sleep(self._sent_at + seconds - loop.time())
            if loop.time() >= self._sent_at + seconds:
                await self._send(send, PING)

    async def _send(self, send: Send, block: bytes, *, is_last: bool = False) -> None:
        loop = asyncio.get_running_loop()
        async with self._lock:
            began = loop.time()
            self._n_bytes += len(block)
            may_wait = self._settings.backlog_seconds + self._n_bytes / LEAST_BYTES_PER_SECOND
            try:
                async with asyncio.timeout(may_wait - self._waited_seconds):
                    if not self._is_begun:
                        self._is_begun = True
                        await send(_START)
                    body = {"type": "http.response.body", "body": block, "more_body": not is_last}
                    await send(body)
            except TimeoutError:
                raise UnreadError from None
            self._sent_at = loop.time()
            self._waited_seconds += self._sent_at - began


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
