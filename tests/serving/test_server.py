"""How a server begins, and how it ends without cutting anybody off."""

import asyncio
import gc
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from receptance.errors import ConfigError
from receptance.inference import Engine, LanguageModel
from receptance.serving import Settings
from receptance.serving import server as server_module
from receptance.serving.access import KeyRing
from receptance.serving.app import create_app
from receptance.serving.perimeter import wrap
from receptance.serving.server import Server, bind, check_exposure, serve
from tests.serving.event_streams import events_of, refused
from tests.serving.live import live, read_answer, until_closed
from tests.serving.perimeter.asgi import small_app

KEYS = KeyRing(["anna-0123456789abcdef"])
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class FakeRoom:
    """A room whose requests end when they are told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.drained = threading.Event()
        self.may_end = threading.Event()
        self.is_dead = asyncio.Event()

    def retire(self) -> None:
        self.seen.append("retire")

    async def drain(self, seconds: float) -> None:
        self.seen.append(f"drain {seconds:g}")
        self.drained.set()
        while seconds and not self.may_end.is_set():
            await asyncio.sleep(0.005)
        if seconds:
            self.seen.append("drained")

    async def until_dead(self) -> None:
        await self.is_dead.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "LOCALHOST", "127.8.8.8"])
def test_this_machine_may_call_without_a_key(host):
    check_exposure(Settings(host=host), None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "gpu.example", "", "localhost.example", "0"]
)
def test_others_need_a_key(host):
    with pytest.raises(ConfigError, match=r"must have keys, but .* --api-key-file FILE"):
        check_exposure(Settings(host=host), None)
    check_exposure(Settings(host=host), KEYS)


def test_what_stands_when_it_listens_is_not_looked_through_by_the_collector():
    frozen: list[int] = []
    settings = Settings(port=0)

    def on_ready(_: str) -> None:
        frozen.append(gc.get_freeze_count())
        server.stop()

    server = Server(small_app(), None, settings, on_ready=on_ready)
    assert server.run() == 0
    assert frozen[0] > 10_000
    assert gc.get_freeze_count() == 0


def test_a_socket_file_is_guarded_by_its_folder():
    check_exposure(Settings(host="0.0.0.0", unix_socket=Path("any.sock")), None)


@pytest.mark.parametrize(
    "settings", [Settings(cors_origins=("*",)), Settings(allowed_hosts=("*",))]
)
def test_all_pages_of_the_web_need_a_key(settings):
    with pytest.raises(ConfigError, match=r"`(cors_origins|allowed_hosts)` must name who may call"):
        check_exposure(settings, None)
    check_exposure(settings, KEYS)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on port {port} of '127.0.0.1'"):
            bind(Settings(port=port))


def test_an_address_of_another_machine_is_named():
    with pytest.raises(ConfigError, match=r"'192\.0\.2\.1'"):
        bind(Settings(host="192.0.2.1"))
    with pytest.raises(ConfigError, match="`host` must be an address of this machine"):
        bind(Settings(host="no host"))


def test_nobody_gets_through_before_the_server_is_ready():
    with bind(Settings(port=0)) as bound:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(bound.getsockname(), timeout=1)
        assert bound.getsockname()[0] == "127.0.0.1"


def test_a_socket_file_serves_and_is_removed(tmp_path: Path):
    path = tmp_path / "receptance.sock"
    settings = Settings(unix_socket=path)
    with live(wrap(small_app(), settings), settings) as server:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(ConfigError, match="another server listens there"):
            bind(settings)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(GET)
            assert b" 200 " in read_answer(client)
    assert not path.exists()


def test_a_socket_file_that_was_left_is_replaced_but_no_other_file(tmp_path: Path):
    left, other = tmp_path / "left.sock", tmp_path / "notes.txt"
    bind(Settings(unix_socket=left)).close()
    bind(Settings(unix_socket=left)).close()

    other.write_text("keep")
    with pytest.raises(ConfigError, match="it is there and no socket"):
        bind(Settings(unix_socket=other))
    assert other.read_text() == "keep"


def test_a_server_is_unready_for_a_while_before_it_takes_no_more():
    room = FakeRoom()
    settings = Settings(port=0, drain_seconds=30.0)
    with live(wrap(small_app(), settings), settings, room) as server:
        server.server.stop()
        while not room.seen:
            time.sleep(0.005)
        with server.connect() as client:
            client.sendall(GET)
            assert b" 200 " in read_answer(client)
        assert room.seen == ["retire"]


def test_running_requests_end_before_the_server_does():
    room = FakeRoom()
    began, may_go_on = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            room.seen.append("lifespan")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        began.set()
        while not may_go_on.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"last"})
        room.seen.append("answered")

    with live(app, Settings(port=0), room) as server, server.connect() as client:
        client.sendall(GET)
        assert began.wait(5)
        server.server.stop()
        assert room.drained.wait(5)
        may_go_on.set()
        room.may_end.set()
        assert until_closed(client).endswith(b"last\r\n0\r\n\r\n")
    seen = [each for each in room.seen if each != "drain 0"]  # as `live` stops it once more
    assert seen == ["retire", "drain 30", "answered", "drained", "lifespan"]


@pytest.mark.parametrize("n_signals", [2, 3])
def test_who_does_not_end_is_cut_off_soon_after_the_second_signal_or_at_the_third(
    n_signals, monkeypatch, caplog
):
    monkeypatch.setattr(server_module, "_LAST_SECONDS", 0.05 if n_signals == 2 else 60.0)
    room = FakeRoom()
    began = threading.Event()

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            return
        began.set()
        await asyncio.sleep(60)

    with live(app, Settings(port=0), room) as server, server.connect() as client:
        client.sendall(GET)
        assert began.wait(5)
        server.server.stop()
        assert room.drained.wait(5)
        for _ in range(n_signals - 1):
            server.server.stop()
        assert until_closed(client) == b""
    assert room.seen == ["retire", "drain 30", "drain 0"]
    assert not caplog.records


def test_the_second_signal_ends_each_stream_with_an_event_that_says_so(lm: LanguageModel, caplog):
    settings = Settings(port=0, max_sequences=2, max_tokens=10**6)
    app = create_app(lm, settings, model_name="tiny")
    body = {"model": "tiny", "prompt": "a", "stream": True, "max_tokens": 10**6}
    body |= {"logit_bias": {"0": -100}, "temperature": 0}
    url = "/v1/completions"
    with live(app, settings, app.room) as server:
        with httpx.stream("POST", f"{server.address}{url}", json=body) as stream:
            pieces = stream.iter_raw()
            first = next(pieces)
            server.server.stop()
            server.server.stop()
            *_, last = events_of(first + b"".join(pieces))
        assert last["error"]["code"] == "shutting_down"
    assert server.server.exit_code == 143
    assert not caplog.records


@pytest.mark.parametrize(
    ("signals", "code", "seen"),
    [
        ([signal.SIGTERM], 0, ["retire", "drain 30", "drained"]),
        ([signal.SIGINT], 130, ["retire", "drain 30", "drained"]),
        ([signal.SIGINT, signal.SIGTERM], 143, ["retire", "drain 30", "drain 0"]),
    ],
)
def test_signals_end_the_server_with_their_codes(signals, code, seen):
    room = FakeRoom()
    if len(signals) == 1:
        room.may_end.set()
    before = signal.getsignal(signal.SIGTERM)

    def on_ready(address: str) -> None:
        assert address.startswith("http://127.0.0.1:")
        for number in signals:
            os.kill(os.getpid(), number)

    settings = Settings(port=0)
    assert serve(wrap(small_app(), settings), room, settings, on_ready=on_ready) == code
    assert room.seen == seen
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_whose_engine_is_dead_ends_with_1_and_says_why(
    lm: LanguageModel, monkeypatch, caplog
):
    settings = Settings(port=0, max_sequences=2, max_engine_restarts_per_hour=1, drain_seconds=60.0)
    app = create_app(lm, settings, model_name="tiny")
    body = {"model": "tiny", "prompt": "a", "max_tokens": 3}
    with live(app, settings, app.room) as server, httpx.Client(base_url=server.address) as client:
        monkeypatch.setattr(Engine, "step", lambda *_: 1 / 0)
        for _ in range(2):
            answer = client.post("/v1/completions", json=body)
            assert refused(answer, 500)["code"] == "engine_error"
        server.wait()
    assert server.server.exit_code == 1
    told = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert told[0].startswith("the engine broke: ZeroDivisionError")
    assert told[-2:] == [
        "the engine broke too often in an hour, and stays down",
        "the engine is down for good, and the server ends: begin it anew",
    ]


def test_a_room_that_dies_while_the_server_ends_changes_no_exit_code():
    room = FakeRoom()
    with live(small_app(), Settings(port=0), room) as server:
        server.server.stop()
        assert room.drained.wait(5)
        loop = server.server._loop
        assert loop is not None
        loop.call_soon_threadsafe(room.is_dead.set)
        room.may_end.set()
        server.wait()
    assert server.server.exit_code == 0


def test_a_server_that_has_ended_cannot_be_stopped_again():
    settings = Settings(port=0)
    server = Server(small_app(), None, settings, on_ready=lambda _: server.stop())
    assert server.run() == 0
    server.stop()
