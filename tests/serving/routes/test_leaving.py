"""Answers to clients that stay, that leave, and that do not read."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request

from receptance.errors import RequestError
from receptance.serving.perimeter import UnreadError
from receptance.serving.routes.leaving import EventStream, begun, unless_left
from receptance.serving.settings import LEAST_BYTES_PER_SECOND, Settings
from tests.serving.event_streams import events_of

SETTINGS = Settings(ping_seconds=0.02, backlog_seconds=0.05)


@dataclass
class _Client:
    """A client as ASGI sees it."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    has_left: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.reads.set()

    async def receive(self) -> dict[str, Any]:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def answer(
    client: _Client,
    events: Callable[[], AsyncGenerator[bytes, None]],
    settings: Settings = SETTINGS,
) -> list[str]:
    """Send a stream, and return what was told to whoever makes its events."""
    told: list[str] = []
    stream = EventStream(events(), leave=lambda: told.append("leave"), settings=settings)
    try:
        await stream({}, client.receive, client.send)
    finally:
        assert told == ["leave"]
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [each for each in others if not each.done() and "_until_left" in str(each)]
    return told


async def two_events() -> AsyncGenerator[bytes, None]:
    yield b"data: 1\n\n"
    yield b"data: 2\n\n"


def test_all_events_are_sent_and_then_the_end():
    async def run() -> None:
        client = _Client()
        await answer(client, two_events)
        start, *blocks = client.sent
        assert start["status"] == 200
        assert dict(start["headers"]) == {
            b"content-type": b"text/event-stream; charset=utf-8",
            b"cache-control": b"no-cache",
            b"x-accel-buffering": b"no",
        }
        assert events_of(client.body) == [1, 2]
        assert [block["more_body"] for block in blocks] == [True, True, False]

    asyncio.run(run())


def test_what_fails_before_the_first_event_is_no_stream():
    async def events() -> AsyncGenerator[bytes, None]:
        raise RequestError("full", status=503)
        yield b""

    async def run() -> None:
        client = _Client()
        with pytest.raises(RequestError, match="full"):
            await answer(client, events)
        assert client.sent == []

    asyncio.run(run())


def test_what_fails_later_is_an_event_and_no_usual_end():
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise RequestError("the engine broke", status=500, code="engine_error")

    async def run() -> None:
        client = _Client()
        await answer(client, events)
        first, error = events_of(client.body)
        assert first == 1
        assert error["error"]["code"] == "engine_error"
        assert error["error"]["type"] == "server_error"
        assert client.sent[-1]["more_body"] is False

    asyncio.run(run())


def test_a_mistake_of_ours_is_told_without_what_it_says():
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise RuntimeError("/secret/path")

    async def run() -> None:
        client = _Client()
        with pytest.raises(RuntimeError):
            await answer(client, events)
        assert b"secret" not in client.body
        assert events_of(client.body)[1]["error"]["type"] == "server_error"

    asyncio.run(run())


def test_a_client_that_leaves_ends_the_events():
    ended: list[bool] = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        client = _Client()
        task = asyncio.ensure_future(answer(client, events))
        while len(client.sent) < 2:
            await asyncio.sleep(0)
        client.has_left.set()
        await task
        assert ended == [True]

    asyncio.run(run())


def test_a_stream_in_which_nothing_comes_gets_comments():
    async def events() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0.05)
        yield b"data: 1\n\n"

    async def run() -> None:
        client = _Client()
        await answer(client, events)
        assert client.body.startswith(b": ping\n\n")
        assert events_of(client.body) == [1]

    asyncio.run(run())


def test_a_client_that_does_not_read_is_given_up():
    async def run() -> None:
        client = _Client()
        client.reads.clear()
        with pytest.raises(UnreadError):
            await answer(client, two_events)

    asyncio.run(run())


SLOW = Settings(backlog_seconds=0.05)


@dataclass
class _SlowClient(_Client):
    """A client that takes its time for each message."""

    seconds: float = 0.0

    async def send(self, message: Any) -> None:
        await asyncio.sleep(self.seconds)
        self.sent.append(message)


def test_a_client_that_reads_slowly_but_steadily_gets_a_block_however_large():
    async def large() -> AsyncGenerator[bytes, None]:
        for _ in range(3):
            yield b"x" * (LEAST_BYTES_PER_SECOND // 2)

    client = _SlowClient(seconds=0.06)  # for each, where who takes nothing has 0.05 for all
    asyncio.run(answer(client, large, SLOW))
    assert len(client.body) == 3 * (LEAST_BYTES_PER_SECOND // 2)


def test_a_client_that_takes_a_little_now_and_then_is_given_up():
    async def small() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x"

    client = _SlowClient(seconds=0.02)  # less than the 0.05 that it may take in all
    with pytest.raises(UnreadError):
        asyncio.run(answer(client, small, SLOW))
    assert set(client.body) <= set(b"x")
    assert len(client.body) <= 3


def _request(client: _Client) -> Request:
    return Request({"type": "http", "headers": []}, client.receive)


def test_an_answer_is_given_to_who_stays():
    async def work() -> int:
        return 3

    async def run() -> None:
        told: list[str] = []
        assert await unless_left(_request(_Client()), work(), lambda: told.append("end")) == 3
        assert told == ["end"]

    asyncio.run(run())


def test_what_fails_is_told_to_who_stays():
    async def work() -> int:
        raise RequestError("no")

    async def run() -> None:
        with pytest.raises(RequestError, match="no"):
            await unless_left(_request(_Client()), work(), lambda: None)

    asyncio.run(run())


def test_work_for_a_client_that_left_is_ended():
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def run() -> None:
        client = _Client()
        client.has_left.set()
        with pytest.raises(RequestError) as caught:
            await unless_left(_request(client), work(), lambda: ended.append("engine"))
        assert caught.value.status == 499
        assert ended == ["engine", "work"]

    asyncio.run(run())


WAITING = Settings(queue_seconds=0.05)


def test_what_was_begun_is_handed_to_who_stays_and_what_fails_is_told():
    async def fail() -> int:
        raise RequestError("no")

    async def run() -> None:
        left: list[int] = []
        request = _request(_Client())
        settings = Settings()
        assert await begun(request, _three(), leave=left.append, settings=settings) == 3
        with pytest.raises(RequestError, match="no"):
            await begun(request, fail(), leave=left.append, settings=settings)
        assert not left

    asyncio.run(run())


async def _three() -> int:
    return 3


@pytest.mark.parametrize(("leaves", "status"), [(True, 499), (False, 503)])
def test_nothing_is_begun_for_who_left_or_waited_too_long(leaves: bool, status: int):
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def run() -> None:
        client = _Client()
        if leaves:
            client.has_left.set()
        with pytest.raises(RequestError) as caught:
            await begun(
                _request(client), work(), leave=lambda _: ended.append("left"), settings=WAITING
            )
        assert caught.value.status == status
        assert ended == ["work"]

    asyncio.run(run())


@pytest.mark.parametrize("is_cut", [False, True])
def test_what_was_begun_behind_the_end_is_left(is_cut: bool):
    async def work() -> int:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 3

    async def run() -> None:
        left: list[int] = []
        handling = asyncio.ensure_future(
            begun(_request(_Client()), work(), leave=left.append, settings=WAITING)
        )
        await asyncio.sleep(0)
        if is_cut:
            await asyncio.sleep(0)
            handling.cancel()
        with pytest.raises(asyncio.CancelledError if is_cut else RequestError):
            await handling
        assert left == [3]

    asyncio.run(run())
