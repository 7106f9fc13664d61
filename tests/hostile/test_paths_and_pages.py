"""Names that are paths or addresses, and pages of others: the whole app opens none of them."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.app import ServerApp, create_app
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.live import Live, live

NAMES = [
    *("../../etc/passwd", "/etc/passwd", "....//....//etc/passwd", "..\\..\\etc\\passwd"),
    *("%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "%252e%252e%252fetc%252fpasswd"),
    *("etc/passwd%00.json", "..%c0%af..%c0%afetc/passwd", "%uff0e%uff0e/etc/passwd"),
    *("file:///etc/passwd", "//evil.example/share", "\\\\evil.example\\share", "~root/.ssh/id_rsa"),
    *("http://169.254.169.254/latest/meta-data", "http://127.0.0.1:9/", "gopher://evil.example/"),
    *("con", "NUL", ".", "..", "tiny/..", "tiny/../tiny", "tiny%00", "tiny ", "TINY"),
]
FOLDERS = ("/v1/models/", "/v1/states/", "/static/", "/")
FIELDS = ("model", "state", "file", "adapter", "lora", "chat_template", "image_url", "tokenizer")

_touched: list[str] = []
_is_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _is_watching and event in ("open", "socket.getaddrinfo", "socket.gethostbyname"):
        _touched.append(f"{event} {arguments[0]}")


sys.addaudithook(_watch)


@contextmanager
def nothing_is_opened() -> Iterator[None]:
    """Fail if a file with one of the names is opened meanwhile, or an address asked for."""
    global _is_watching  # a hook of the interpreter stays for good
    _touched.clear()
    _is_watching = True
    try:
        yield
    finally:
        _is_watching = False
    words = ("passwd", "evil", "id_rsa", "169.254", "meta-data")
    assert [each for each in _touched if any(word in each for word in words)] == []


@pytest.fixture(scope="module")
def app() -> ServerApp:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    return create_app(lm, Settings(port=0, max_sequences=2), model_name="tiny")


@pytest.fixture(scope="module")
def server(app: ServerApp) -> Iterator[Live]:
    with live(app, Settings(port=0), app.room) as server:
        yield server


def ask(
    server: Live, method: str, path: str, content: str = "", **headers: str
) -> tuple[int, bytes, bytes]:
    """Send a request as it is written, without a client that would mend its path."""
    said = {"host": "localhost", "connection": "close", "content-type": "application/json"}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    said["content-length"] = str(len(content))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
    head, _, body = server.ask("\r\n".join(lines) + "\r\n\r\n" + content).partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_name_that_climbs_finds_nothing(server: Live, folder: str):
    with nothing_is_opened():
        for name in NAMES:
            for method in ("GET", "DELETE", "POST"):
                path = (folder + name).replace(" ", "%20")
                status, _, body = ask(server, method, path, "" if method == "GET" else "{}")
                assert status in (400, 404, 405, 431), (method, path, status)
                assert b"root:" not in body
                assert set(json.loads(body)) == {"error"}


def test_a_field_that_names_a_file_or_an_address_is_refused(server: Live):
    with nothing_is_opened():
        for field in FIELDS:
            for name in NAMES:
                body = {"model": "tiny", "prompt": "a", "max_tokens": 1, field: name}
                status, _, answer = ask(server, "POST", "/v1/completions", json.dumps(body))
                assert status in (400, 404), (field, name)
                assert json.loads(answer)["error"]["param"] == field


def test_a_part_of_a_message_that_is_to_be_fetched_is_refused(server: Live):
    parts = [
        {"type": "image_url", "image_url": {"url": "http://evil.example/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "file:///etc/passwd"}},
        {"type": "file", "file": {"file_id": "../../etc/passwd"}},
    ]
    with nothing_is_opened():
        for part in parts:
            messages = [{"role": "user", "content": [part]}]
            body = json.dumps({"model": "tiny", "messages": messages})
            status, _, answer = ask(server, "POST", "/v1/chat/completions", body)
            assert status == 400
            assert json.loads(answer)["error"]["param"].startswith("messages[0].content")


HOSTS = [
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("localhost@evil.example", "evil.example#localhost", "[::1].evil.example", "a b"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_name_that_is_bound_to_us_by_others_is_refused(server: Live, host: str):
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/health")):
        status, head, _ = ask(server, method, path, "" if method == "GET" else "{}", host=host)
        assert status in (400, 403, 421), (method, path, status)
        assert b"access-control" not in head.lower()


BODY = json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 1})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example"])
def test_a_page_of_others_gets_nothing_done_and_reads_nothing(server: Live, origin: str):
    status, head, _ = ask(server, "POST", "/v1/completions", BODY, origin=origin)
    assert status == 403
    assert b"access-control" not in head.lower()
    asks = {"access_control_request_method": "POST", "origin": origin}
    _, head, _ = ask(server, "OPTIONS", "/v1/completions", **asks)
    assert b"access-control-allow" not in head.lower()
    _, head, _ = ask(server, "GET", "/v1/models", origin=origin)
    assert b"access-control-allow" not in head.lower()


KINDS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_form_can_send_is_refused(server: Live, kind: str):
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize"):
        status, _, _ = ask(server, "POST", path, BODY, content_type=kind)
        assert status == 415


def test_nothing_is_done_by_reading(server: Live, app: ServerApp):
    before = app.service.metrics.value("generation_tokens_total")
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize"):
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            status, _, _ = ask(server, method, f"{path}?model=tiny&prompt=a", "")
            assert status == 405, (method, path)
    assert app.service.metrics.value("generation_tokens_total") == before
