"""Clients that are slow, many or no clients at all, on real sockets."""

import asyncio
import contextlib
import json
import logging
import select
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from receptance.serving.perimeter import UnreadError, wrap
from receptance.serving.settings import Settings
from tests.serving.live import Live, live, read_answer, until_closed
from tests.serving.perimeter.asgi import small_app

SHORT = Settings(
    port=0,
    header_seconds=0.08,
    body_seconds=0.08,
    keep_alive_seconds=0.08,
    max_header_bytes=4096,
    max_body_bytes=100_000,
    backlog_seconds=0.1,
)
GET = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live(wrap(small_app(), SHORT), SHORT) as each:
        yield each


def error_of(answer: bytes) -> dict[str, str]:
    header, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: req_" in header.lower()
    return json.loads(body)["error"]


def code_of(answer: bytes) -> tuple[int, str]:
    return int(answer.split(b" ")[1]), error_of(answer)["code"]


def read_some(client: socket.socket) -> bytes:
    answer = read_answer(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    return answer


def test_one_connection_serves_many_requests(server):
    with server.connect() as client:
        for _ in range(3):
            client.sendall(GET.encode())
            assert b'"path":"/health"' in read_some(client)


def test_requests_that_come_at_once_are_answered_in_turn(server):
    answer = server.ask(GET * 3)
    assert answer.count(b"HTTP/1.1 200 ") == 3


def test_who_says_nothing_is_closed(server):
    assert server.ask("") == b""


@pytest.mark.parametrize("part", ["G", "GET /health HTTP/1.1\r\nHost: loc", "POST / HTTP/1"])
def test_half_a_header_is_closed_in_time(server, part):
    answer = server.ask(part)
    assert code_of(answer) == (408, "header_timeout")
    assert b"connection: close" in answer.lower()


def drip(client: socket.socket, text: str) -> bytes:
    """Send one byte each hundredth of a second, and return what comes back."""
    with contextlib.suppress(OSError):
        for letter in text:
            client.sendall(letter.encode())
            time.sleep(0.01)
    return until_closed(client)


def test_a_header_in_drops_does_not_win_time(server):
    with server.connect() as client:
        assert b" 200 " not in drip(client, GET)


@pytest.mark.parametrize(
    "framing", ["Content-Length: 10\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{"]
)
def test_half_a_body_is_closed_in_time(server, framing):
    assert code_of(server.ask(POST + framing)) == (408, "body_timeout")


def test_a_body_in_drops_does_not_win_time(server):
    with server.connect() as client:
        client.sendall((POST + "Content-Length: 30\r\n\r\n").encode())
        assert b" 200 " not in drip(client, "{" + " " * 28 + "}")


def test_a_connection_without_a_further_request_is_closed(server):
    answer = server.ask(GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_half_a_further_request_is_closed_in_time(server):
    with server.connect() as client:
        client.sendall(GET.encode())
        read_some(client)
        client.sendall(b"GET ")
        assert code_of(until_closed(client)) == (408, "header_timeout")


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (POST, "header_timeout"),
        (POST + "Content-Length: 100\r\n\r\n", "body_timeout"),
        (POST + "Content-Length: 100\r\n\r\n{} ", "body_timeout"),
        (GET + POST + "Content-Length: 100\r\n\r\n{} ", "body_timeout"),
    ],
)
def test_half_a_request_that_came_with_a_whole_one_is_closed_in_time(server, part, code):
    answer = server.ask(GET + part)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert code_of(answer[answer.rindex(b"HTTP/1.1 ") :]) == (408, code)


@pytest.mark.parametrize(
    "text",
    [
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "hello\r\n\r\n",
        "\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n",
        "GET /hea lth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        POST + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        POST + "Content-Length: -1\r\n\r\n",
        POST + "Transfer-Encoding: gzip\r\n\r\n",
        POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_our_form(server, text):
    answer = server.ask(text)
    status, code = code_of(answer)
    assert (status, code) == (400, "invalid_http")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("before", ["", GET])
def test_no_request_hides_behind_one_that_has_two_ends(server, before, version):
    length = "Content-Length: 4\r\n" if version == "1.1" else ""
    hiding = POST.replace("1.1", version) + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = server.ask(before + hiding + GET)
    assert answer.count(b"HTTP/1.1 200 ") == bool(before)
    assert code_of(answer[answer.rindex(b"HTTP/1.1 ") :]) == (400, "invalid_http")


@pytest.mark.parametrize("end", ["", "\r\n\r\n"])
def test_a_long_header_is_refused(server, end):
    answer = server.ask("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 20_000 + end)
    assert code_of(answer) == (431, "header_too_large")


def test_a_body_that_is_too_long_is_refused_though_it_is_still_being_sent(server):
    with server.connect() as client:
        client.sendall((POST + "Content-Length: 5000000\r\n\r\n").encode())
        client.sendall(b"a" * 200_000)
        answer = read_answer(client)
    assert code_of(answer) == (413, "body_too_large")
    chunk = "10000\r\n" + "a" * 65536 + "\r\n"
    with server.connect() as client:
        client.sendall((POST + "Transfer-Encoding: chunked\r\n\r\n" + chunk * 3).encode())
        answer = read_answer(client)
    assert code_of(answer) == (413, "body_too_large")


def test_a_connection_goes_on_after_a_refused_body_has_come(server):
    with server.connect() as client:
        body = b" " * 150_000
        client.sendall((POST + f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
        assert code_of(read_answer(client)) == (413, "body_too_large")
        client.sendall(GET.encode())
        read_some(client)


def test_a_request_behind_a_refused_body_has_its_own_time(server):
    with server.connect() as client:
        client.sendall((POST + "Content-Length: 200000\r\n\r\n").encode() + b" " * 150_000)
        assert code_of(read_answer(client)) == (413, "body_too_large")
        client.sendall(b" " * 50_000 + (POST + "Content-Length: 100\r\n\r\n{").encode())
        assert code_of(until_closed(client)) == (408, "body_timeout")


def test_a_client_that_asks_before_it_sends_is_told_first(server):
    asks = POST + "Expect: 100-continue\r\nContent-Length: "
    with server.connect() as client:
        client.sendall((asks + "9000000\r\n\r\n").encode())
        assert code_of(read_answer(client)) == (413, "body_too_large")
    with server.connect() as client:
        client.sendall((asks + "2\r\n\r\n").encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"{}")
        read_some(client)


def test_connections_are_counted_and_given_back():
    settings = Settings(port=0, max_connections=3, max_connections_per_address=2)
    with live(wrap(small_app(), settings), settings) as server:
        for _ in range(3):
            clients = [server.connect(), server.connect()]
            for client in clients:
                client.sendall(GET.encode())
                read_some(client)
            refused = server.ask("")
            assert code_of(refused) == (429, "too_many_connections")
            assert b"retry-after: 1" in refused.lower()
            for client in clients:
                client.close()
            _wait_until_it_answers(server)


def _wait_until_it_answers(server: Live) -> None:
    for _ in range(100):
        with server.connect() as client:
            client.sendall(GET.encode())
            if read_answer(client).startswith(b"HTTP/1.1 200 "):
                return
        time.sleep(0.01)
    raise AssertionError


def test_all_addresses_together_have_a_limit():
    settings = Settings(port=0, max_connections=1)
    with live(wrap(small_app(), settings), settings) as server, server.connect() as client:
        client.sendall(GET.encode())
        read_some(client)
        assert code_of(server.ask("")) == (503, "too_many_connections")


@pytest.mark.parametrize("n_read", [0, 1])
def test_a_client_that_does_not_read_is_cut_off(n_read):
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(_until_gone(receive))
        while not gone.done():
            piece = {"type": "http.response.body", "body": b"a" * 100_000, "more_body": True}
            await send(piece)
            await asyncio.sleep(0)
        ended.append(scope["path"])

    with live(app, Settings(port=0, backlog_seconds=0.1)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(GET.encode())
        for _ in range(200):
            if not ended:
                time.sleep(0.02)
                client.recv(n_read)
        assert ended == ["/health"]


def test_a_client_of_which_the_app_finds_that_it_does_not_read_is_cut_off(caplog):
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise UnreadError

    settings = Settings(port=0)
    with live(wrap(app, settings), settings) as server:
        answer = server.ask(GET)
        assert not answer.endswith(b"0\r\n\r\n")
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_a_client_that_reads_a_long_answer_slowly_gets_it_whole(header):
    n_bytes = 12_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"A" * n_bytes})

    settings = Settings(port=0, backlog_seconds=0.1, keep_alive_seconds=0.1)
    with live(app, settings) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", server.port))
        client.sendall((GET[:-2] + header + "\r\n").encode())
        n_read = 0
        began = time.monotonic()
        while chunk := client.recv(200_000):
            n_read += chunk.count(b"A")
            time.sleep(0.003)
        assert n_read == n_bytes
        assert time.monotonic() - began > 3 * settings.backlog_seconds


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_honest_clients_do_not_wait_for_slow_ones():
    settings = Settings(port=0, header_seconds=60.0)
    with live(wrap(small_app(), settings), settings) as server:
        slow = [server.connect() for _ in range(200)]
        for client in slow:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        with server.connect() as client:
            for _ in range(20):
                client.sendall(GET.encode())
                read_some(client)
        assert select.select(slow, [], [], 0)[0] == []
        for client in slow:
            client.close()
