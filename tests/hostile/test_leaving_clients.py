"""Clients that leave at any moment: afterwards the server is as if they had never come."""

import asyncio
import json
import logging
import random
import socket
import struct
import threading
import time
from pathlib import Path

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.app import ServerApp, create_app
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.live import Live, live

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

_NOTHING = {"places", "promised", "series", "families", "sequences", "slots", "aside", "states"}
_PATHS = [f"/v1/{name}" for name in ("completions", "chat/completions", "embeddings", "states")]
_PATHS.append("/tokenize")


def request_of(draw: random.Random) -> bytes:
    """Return the bytes of a request that takes long enough to be left."""
    path = draw.choice(_PATHS)
    prompt = "a long way to go " * draw.choice((1, 20, 400))
    body: dict[str, object] = {"model": "tiny"}
    if path == "/v1/embeddings":
        body["input"] = [prompt] * draw.choice((1, 3, 12))
    elif path in ("/tokenize", "/v1/states"):
        body["prompt"] = prompt
    else:
        is_chat = path.startswith("/v1/chat")
        messages = [{"role": "user", "content": prompt}]
        body |= {"messages": messages} if is_chat else {"prompt": prompt}
        body |= {"max_tokens": draw.choice((1, 30, 2000)), "logit_bias": {"0": -100}}
        body |= {"stream": draw.random() < 0.6, "n": draw.choice((1, 1, 3))}
        body["save_state"] = body["n"] == 1 and draw.random() < 0.3
        if draw.random() < 0.2:
            body["response_format"] = {"type": "regex", "pattern": "[a-z]{0,900}"}
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def ask_and_leave(server: Live, draw: random.Random) -> None:
    """Send a request or a part of it, read for a moment or not at all, and go."""
    sent = request_of(draw)
    if draw.random() < 0.2:
        sent = sent[: draw.randrange(len(sent))]
    with server.connect() as client:
        client.sendall(sent)
        client.settimeout(0.001 + draw.random() * draw.choice((0.002, 0.03)))
        try:
            while draw.random() < 0.8:
                if not client.recv(draw.choice((1, 100, 65536))):
                    break
        except TimeoutError:
            pass
        if draw.random() < 0.5:  # in the middle of it all, by a reset
            linger = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def leave_often(server: Live, seeds: list[float]) -> None:
    for seed in seeds:
        ask_and_leave(server, random.Random(seed))


def held_by(app: ServerApp) -> dict[str, int]:
    """Return how much there is of all that a request takes."""
    loop, engine = app.room._loop, app.room._thread._maker.engine
    assert loop is not None
    assert engine is not None

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return {
        "tasks": asyncio.run_coroutine_threadsafe(count(), loop).result(10),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "places": len(app.room._places),
        "promised": app.room._admission.n_open,
        "series": len(app.room._series),
        "families": len(app.room._thread._families),
        "sequences": engine.n_running + engine.n_waiting,
        "slots": engine._pool.n_slots - engine._pool.n_free,
        "aside": app.service.side._n_of.total(),
        "states": len(app.service.states._places) + app.service.states._promised.total(),
    }


def check(n: int) -> None:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    settings = Settings(
        port=0, max_sequences=4, max_waiting=64, chunk_tokens=64, header_seconds=1, body_seconds=1
    )
    app = create_app(lm, settings, model_name="tiny")
    with live(app, settings, app.room) as server:
        draw = random.Random(n)
        body = {"model": "tiny", "prompt": "a", "max_tokens": 5, "seed": 1}
        body["response_format"] = {"type": "regex", "pattern": "[a-z]*"}
        url = f"{server.address}/v1/completions"
        text = httpx.post(url, json=body).json()["choices"]
        for _ in range(8):  # what is there once, and stays, is there
            ask_and_leave(server, draw)
        before = settled(app)
        seeds = [draw.random() for _ in range(n)]
        clients = [
            threading.Thread(target=leave_often, args=(server, seeds[i::8])) for i in range(8)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        after = settled(app)
        assert {k: v for k, v in after.items() if v > before[k] and k != "threads"} == {}
        assert not any(after[name] for name in _NOTHING)
        assert after["threads"] <= before["threads"] + 8  # asyncio's own, which stay
        assert app.service.metrics.value("engine_errors_total") == 0
        assert httpx.post(url, json=body).json()["choices"] == text


def test_a_client_that_never_reads_is_cut_off_and_leaves_nothing_behind(caplog):
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    settings = Settings(
        port=0, max_sequences=4, backlog_seconds=0.2, backlog_bytes=50_000, max_logprobs=2**23
    )
    app = create_app(lm, settings, model_name="tiny")
    body = {"model": "tiny", "prompt": "a", "n": 4, "max_tokens": 60_000, "logprobs": 20}
    content = json.dumps({**body, "logit_bias": {"0": -100}, "stream": True}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with live(app, settings, app.room) as server, socket.socket() as client:
        before = settled(app)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", server.port))
        client.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        until = time.monotonic() + 30
        while app.service.metrics.value("prompt_tokens_total") == 0:
            assert time.monotonic() < until
        while (held := held_by(app))["tasks"] > before["tasks"] or held["places"]:
            assert time.monotonic() < until, held
            time.sleep(0.02)
        assert settled(app)["files"] <= before["files"] + 1  # the client's own end
        assert app.service.metrics.value("cancelled_total", reason="backlog") == 1
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def settled(app: ServerApp) -> dict[str, int]:
    """Return what is held once nothing changes any more."""
    held, until = held_by(app), time.monotonic() + 20
    still = 0
    while still < 5 and time.monotonic() < until:
        time.sleep(0.05)
        now = held_by(app)
        still = still + 1 if now == held and not now["sequences"] else 0
        held = now
    return held


def test_clients_that_leave_at_any_moment_leave_nothing_behind():
    check(80)


@pytest.mark.slow
def test_very_many_clients_that_leave_at_any_moment_leave_nothing_behind():
    check(1000)
