"""The app as a whole: its errors, its life, whose request is whose."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from receptance.errors import ConfigError, TokenizerError
from receptance.inference import LanguageModel
from receptance.serving.access import KeyRing
from receptance.serving.app import DEFAULT_MODEL_NAME, ServerApp, create_app, name_of
from receptance.serving.chat import FolderTemplate
from receptance.serving.settings import Settings
from tests.serving.event_streams import refused
from tests.serving.http_server import served


def test_a_server_with_keys_lets_nobody_in_without_one(lm: LanguageModel):
    app = create_app(lm, Settings(max_sequences=2), keys=KeyRing(["me:sk-0123456789abcdef"]))
    body = {"model": DEFAULT_MODEL_NAME, "prompt": "a", "max_tokens": 1}
    with served(app) as url:
        error = refused(httpx.post(f"{url}/v1/completions", json=body), 401)
        assert error["type"] == "authentication_error"
        headers = {"authorization": "Bearer sk-0123456789abcdef"}
        assert httpx.post(f"{url}/v1/completions", json=body, headers=headers).status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200
        # What the page needs is open to who asks for its headers only, and nothing else is.
        for path, status in [("/", 200), ("/static/main.js", 200), ("/v1/models", 401)]:
            assert httpx.head(f"{url}{path}").status_code == status


def test_a_model_is_called_what_its_file_is_called(lm: LanguageModel, tmp_path: Path):
    def name(path: Path | None) -> str:
        return name_of(LanguageModel(lm.model, lm.tokenizer, path=path))

    folder = tmp_path / "my model.v1"
    folder.mkdir()
    file = tmp_path / "RWKV-4-World-0.1B-v1-20230803-ctx4096.pth"
    file.touch()
    assert name(None) == DEFAULT_MODEL_NAME
    assert name(folder) == "my-model.v1"
    assert name(file) == "RWKV-4-World-0.1B-v1-20230803-ctx4096"
    assert name(Path("/")) == DEFAULT_MODEL_NAME


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[1m", "x" * 201])
def test_a_name_that_no_client_could_write_is_refused(lm: LanguageModel, name: str):
    with pytest.raises(ConfigError, match="the model's name must be"):
        create_app(lm, Settings(), model_name=name)


def test_a_model_without_a_tokenizer_is_not_served(lm: LanguageModel):
    with pytest.raises(TokenizerError):
        create_app(LanguageModel(lm.model, None), Settings())


def test_a_template_that_is_unknown_is_not_served(lm: LanguageModel):
    with pytest.raises(ValueError, match="chat_template"):
        create_app(lm, Settings(), chat_template="klingon")


def test_a_full_server_says_when_to_come_again(lm: LanguageModel):
    settings = Settings(max_sequences=1, max_waiting=0, max_tokens=10**6)
    app = create_app(lm, settings, model_name="tiny")
    body = {"model": "tiny", "prompt": "a", "stream": True, "max_tokens": 10**6}
    long = {**body, "logit_bias": {"0": -100}, "temperature": 0}
    with served(app) as url, httpx.stream("POST", f"{url}/v1/completions", json=long) as stream:
        pieces = stream.iter_raw()  # held, as it closes the stream with itself
        next(pieces)
        response = httpx.post(f"{url}/v1/completions", json=body)
        assert refused(response, 429)["code"] == "queue_full"
        assert int(response.headers["retry-after"]) >= 1
        assert refused(httpx.get(f"{url}/ready"), 503)["code"] == "not_ready"
        assert httpx.get(f"{url}/health").status_code == 200
        stream.close()
        while app.room.n_running:  # the client that left makes room within a step
            pass
        body = {**body, "max_tokens": 1}
        assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200


@contextmanager
def busy_side(app: ServerApp) -> Iterator[None]:
    """Keep the thread that compiles grammars from coming to anybody's."""
    gate, is_held = threading.Event(), threading.Event()
    app.service.side._thread.submit(lambda: (is_held.set(), gate.wait(10)))
    assert is_held.wait(10)
    try:
        yield
    finally:
        gate.set()


WITH_A_GRAMMAR = {"model": "tiny", "prompt": "a", "response_format": {"type": "json_object"}}


def test_a_client_that_leaves_is_seen_while_its_grammar_waits(lm: LanguageModel):
    app = create_app(lm, Settings(max_sequences=2), model_name="tiny")
    with served(app) as url, busy_side(app):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/completions", json=WITH_A_GRAMMAR, timeout=0.1)
        while app.service.side._n_of:
            time.sleep(0.001)


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_a_grammar_that_waits_too_long_is_told_so(lm: LanguageModel, path: str):
    settings = Settings(max_sequences=2, queue_seconds=0.05)
    app = create_app(lm, settings, model_name="tiny")
    body = {**WITH_A_GRAMMAR, "messages": [{"role": "user", "content": "a"}]}
    del body["messages" if path == "completions" else "prompt"]
    with served(app) as url, busy_side(app):
        error = refused(httpx.post(f"{url}/v1/{path}", json=body), 503)
        assert error["code"] == "queue_timeout"
        assert not app.service.side._n_of
        assert not app.room.n_waiting


def test_what_runs_a_models_own_template_ends_with_the_server(lm: LanguageModel, tmp_path: Path):
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}<assistant>"
    (tmp_path / "chat_template.jinja").write_text(template)
    app = create_app(LanguageModel(lm.model, lm.tokenizer, path=tmp_path), Settings())
    assert isinstance(app.service.template, FolderTemplate)
    confined = app.service.template._confined
    with served(app):
        assert confined._process is not None
        pid = confined._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_chat_page_is_at_the_root_and_lives_under_its_own_policy(client: httpx.Client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/favicon.ico").status_code == 200
    refused(client.get("/static/nothing.js"), 404)
    assert "default-src 'none'" in client.get("/v1/models").headers["content-security-policy"]
