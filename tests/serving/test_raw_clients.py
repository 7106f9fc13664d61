"""Clients that know nothing of us: curl, and a socket."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from receptance.serving.app import ServerApp
from tests.serving.event_streams import events_of

BODY = {"model": "tiny", "prompt": "abc", "max_tokens": 9, "seed": 1, "stream": True}
BIAS = {"0": -100}  # the token that would end a text


def test_curl_gets_a_stream_as_it_is_written(server: str):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl, which is absent")
    command = [curl, "-sN", f"{server}/v1/completions", "-H", "content-type: application/json"]
    answer = subprocess.run(
        [*command, "-d", json.dumps(BODY)], capture_output=True, check=True, timeout=20
    )
    *chunks, done = events_of(answer.stdout)
    assert done == "[DONE]"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@contextmanager
def _sent(server: str, content: bytes) -> Iterator[socket.socket]:
    """Send a request, and yield the connection on which its answer comes."""
    host, port = server.removeprefix("http://").split(":")
    request = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request.encode() + content)
        yield connection


def metric(app: ServerApp, name: str, **labels: str) -> float:
    return app.service.metrics.value(name, **labels)


def read_stream(server: str, body: dict[str, object]) -> tuple[bytes, bytes]:
    """Return the header and the body of an answer as they came, read in small pieces."""
    received = b""
    with _sent(server, json.dumps(body).encode()) as connection:
        while piece := connection.recv(37):
            received += piece
    header, _, rest = received.partition(b"\r\n\r\n")
    return header.lower(), rest


def test_a_stream_is_chunks_of_whole_events(server: str):
    header, rest = read_stream(server, BODY)
    assert header.startswith(b"http/1.1 200")
    assert b"content-type: text/event-stream; charset=utf-8" in header
    assert b"cache-control: no-cache" in header
    assert b"x-accel-buffering: no" in header
    assert b"x-request-id: req_" in header
    joined = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        chunk, rest = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if not chunk:
            break
        assert chunk.endswith(b"\n\n")
        chunk.decode()  # no character is cut in two
        joined += chunk
    assert events_of(joined)[-1] == "[DONE]"


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_hangs_up_frees_its_place(server: str, app: ServerApp, streams: bool):
    content = json.dumps(
        {**BODY, "stream": streams, "max_tokens": 2000, "n": 3, "logit_bias": BIAS}
    )
    with _sent(server, content.encode()):
        while app.room.n_running < 3:
            time.sleep(0.001)
    while app.room.n_running:  # 6000 tokens would take many times as long
        time.sleep(0.001)
    whole = metric(app, "generation_tokens_total")
    assert metric(app, "cancelled_total", reason="client") >= 1
    time.sleep(0.01)
    assert metric(app, "generation_tokens_total") == whole


def test_a_refusal_of_a_stream_is_no_stream(server: str):
    header, rest = read_stream(server, {**BODY, "n": 99})
    assert header.startswith(b"http/1.1 400")
    assert b"content-type: application/json" in header
    assert json.loads(rest)["error"]["param"] == "n"
