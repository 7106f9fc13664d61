"""A server begins by saying what is wrong, or where it is; and ends as it is told."""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from receptance.checkpoint import save_model
from receptance.cli import serve
from receptance.serving.chat import TEMPLATE_NAMES
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

KEY = "anna-0123456789abcdef"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model and a file of keys."""
    model = random_rwkv4(n_layer=1, n_embd=16, vocab_size=256)
    save_model(model, load_tokenizer("bytes"), tmp_path / "model")
    (tmp_path / "keys").write_text(f"anna:{KEY}\n")
    (tmp_path / "keys").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECEPTANCE_API_KEYS", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("receptance", "uvicorn")]
    loggers.append(logging.getLogger("receptance.serving.requests"))
    before = [(each, each.level, each.handlers) for each in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


def ask(path: str, request: str, answers: list[bytes], number: int) -> threading.Thread:
    """Send a request as soon as somebody listens on a socket file, and then a signal."""

    def run() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            for _ in range(2000):
                if client.connect_ex(path) == 0:
                    break
                time.sleep(0.005)
            client.settimeout(10)
            client.sendall(request.encode())
            while chunk := client.recv(65536):
                answers.append(chunk)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def request(method: str, path: str, body: str = "", key: str | None = None) -> str:
    headers = ["Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    headers += ["Content-Type: application/json"] if body else []
    headers += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", body])


@pytest.mark.usefixtures("place")
def test_a_model_is_served_until_a_signal(receptance):
    answers: list[bytes] = []
    body = json.dumps({"model": "small", "prompt": "a", "max_tokens": 3})
    asks = request("POST", "/v1/completions", body)
    thread = ask("s.sock", asks, answers, signal.SIGTERM)
    result = receptance("serve", "model", "--unix-socket", "s.sock", "--model-name", "small")
    thread.join()

    assert result.code == 0
    assert result.stdout == ""
    ready, *lines = result.stderr.splitlines()
    assert ready.startswith("receptance ")
    assert ready.endswith(" serves at unix:s.sock")
    assert len(lines) == 1
    assert " anonymous - POST /v1/completions 200 " in lines[0]
    header, _, content = b"".join(answers).partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 200 ")
    assert json.loads(content)["usage"]["completion_tokens"] <= 3
    assert not Path("s.sock").exists()


@pytest.mark.usefixtures("place")
def test_with_keys_only_their_owners_are_served(receptance):
    answers: list[bytes] = []
    asks = request("GET", "/v1/models").replace("Connection: close\r\n", "")
    asks += request("GET", "/v1/models", key=KEY)
    thread = ask("s.sock", asks, answers, signal.SIGINT)
    options = ("--unix-socket", "s.sock", "--api-key-file", "keys", "--quiet")
    result = receptance("serve", "model", *options)
    thread.join()

    assert result.code == 130
    assert len(result.stderr.splitlines()) == 1
    both = b"".join(answers)
    assert both.index(b"HTTP/1.1 401 ") < both.index(b"HTTP/1.1 200 ")
    assert KEY not in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["model", "--host", "0.0.0.0"], 3, "must have keys, but '0.0.0.0' has none"),
        (["model", "--cors-origin", "*"], 3, "`cors_origins` must name who may call"),
        (["model", "--cors-origin", "foo"], 2, "`cors_origins` must be origins such as"),
        (["none", "--model-name", ""], 3, "the model's name must be 1 to 200 letters"),
        (["model", "--api-key-file", "none"], 2, "'none' does not exist"),
        (["model", "--api-key-file", "empty"], 3, "'empty' must hold at least one key"),
        (["none", "--port", "0"], 4, "no checkpoint at 'none'"),
        (["model", "--port", "0", "--chat-template", "none"], 2, "'none' is not one of"),
        (["model", "--max-sequences", "0"], 2, "`max_sequences` must be at least 1"),
    ],
)
def test_what_is_wrong_is_told_before_anybody_can_call(receptance, place, args, code, words):
    (place / "empty").touch()
    result = receptance("serve", *args)

    assert (result.code, result.stdout) == (code, "")
    assert words in result.stderr
    assert " serves at " not in result.stderr


@pytest.mark.usefixtures("place")
def test_a_port_that_is_taken_is_told_before_the_model_is_read(receptance):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = receptance("serve", "none", "--port", str(other.getsockname()[1]))

    assert result.code == 3
    assert "choose another with --port" in result.stderr


def test_every_template_that_there_is_may_be_chosen():
    (option,) = [each for each in serve.command.params if each.name == "chat_template"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == TEMPLATE_NAMES


def test_keys_that_all_can_read_are_warned_of(receptance, place):
    (place / "keys").chmod(0o644)
    result = receptance("serve", "none", "--port", "0", "--api-key-file", "keys")

    assert "WARNING every user of this machine can read or change the keys" in result.stderr
    assert KEY not in result.stderr


@pytest.mark.usefixtures("place")
def test_keys_of_the_environment_are_taken(receptance, monkeypatch):
    monkeypatch.setenv("RECEPTANCE_API_KEYS", "short")
    result = receptance("serve", "model", "--port", "0")

    assert result.code == 3
    assert "RECEPTANCE_API_KEYS, line 1: a key must have at least 16 characters" in result.stderr
