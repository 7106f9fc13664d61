"""How the server says that it is well."""

import asyncio
import threading
import time
from importlib.metadata import version

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving.app import create_app
from receptance.serving.settings import Settings
from tests.serving.event_streams import refused
from tests.serving.http_server import served


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/health?deep=1", "/health?deep=true"])
def test_a_server_that_lives_says_so(client: httpx.Client, path: str):
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_server_that_takes_requests_says_so(client: httpx.Client):
    assert client.get("/ready").json() == {"status": "ready"}


def test_the_version_is_the_packages(client: httpx.Client):
    assert client.get("/version").json() == {"version": version("receptance")}


def test_the_numbers_are_in_prometheus_form(client: httpx.Client):
    body = {"model": "tiny", "prompt": "a", "max_tokens": 3}
    client.post("/v1/completions", json=body)
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "receptance:num_requests_running" in response.text
    line = next(
        each
        for each in response.text.splitlines()
        if each.startswith("receptance:generation_tokens_total ")
    )
    assert float(line.split()[1]) >= 3


def test_a_deep_look_takes_one_token_however_often_it_is_asked(lm: LanguageModel):
    app = create_app(lm, Settings(max_sequences=2), model_name="tiny")
    with served(app) as url:
        for _ in range(5):
            assert httpx.get(f"{url}/health?deep=1").status_code == 200
    assert app.service.metrics.value("generation_tokens_total") == 1


@pytest.mark.parametrize("late", ["probe_seconds", "queue_seconds"])
def test_a_server_that_is_busy_is_well(lm: LanguageModel, late: str):
    settings = Settings(**{"max_sequences": 1, late: 0.05})
    app = create_app(lm, settings, model_name="tiny")
    body = {"model": "tiny", "prompt": "a", "stream": True, "max_tokens": 2**16}
    body["logit_bias"] = {"0": -100}
    with served(app) as url, httpx.stream("POST", f"{url}/v1/completions", json=body) as stream:
        begun = stream.iter_raw()
        next(begun)
        assert httpx.get(f"{url}/health?deep=1").json() == {"status": "ok"}
        assert app.room.n_running == 1


def test_a_server_that_ends_is_well_and_not_ready(lm: LanguageModel):
    app = create_app(lm, Settings(), model_name="tiny")
    with served(app) as url:
        assert app.room._loop is not None
        asyncio.run_coroutine_threadsafe(app.room.drain(1.0), app.room._loop).result(5)
        assert httpx.get(f"{url}/health?deep=1").status_code == 200
        assert refused(httpx.get(f"{url}/ready"), 503)["code"] == "not_ready"


def test_a_server_whose_engine_takes_no_step_is_unwell(lm: LanguageModel):
    gate, is_held = threading.Event(), threading.Event()

    def hang() -> None:
        is_held.set()
        gate.wait(10)

    app = create_app(lm, Settings(probe_seconds=0.05), model_name="tiny")
    with served(app) as url:
        app.room._thread.work(hang, asyncio.Future(loop=app.room._loop))
        is_held.wait(10)
        try:
            assert refused(httpx.get(f"{url}/health?deep=1"), 503)["code"] == "no_token"
        finally:
            gate.set()


def test_a_server_whose_engine_hangs_is_unwell_until_it_goes_on(lm: LanguageModel):
    gate, is_held = threading.Event(), threading.Event()

    def hang() -> None:
        is_held.set()
        gate.wait(10)

    app = create_app(lm, Settings(max_sequences=2, step_seconds=0.02), model_name="tiny")
    with served(app) as url:
        assert httpx.get(f"{url}/health").status_code == 200
        app.room._thread.work(hang, asyncio.Future(loop=app.room._loop))
        is_held.wait(10)
        body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
        try:
            time.sleep(0.03)
            assert refused(httpx.get(f"{url}/health"), 503)["code"] == "engine_dead"
            refused(httpx.get(f"{url}/ready"), 503)
            refused(httpx.post(f"{url}/v1/completions", json=body), 503)
        finally:
            gate.set()
        while httpx.get(f"{url}/health").status_code != 200:
            pass
        assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200


def test_a_server_whose_engine_is_gone_is_neither_well_nor_ready(lm: LanguageModel):
    app = create_app(lm, Settings(max_sequences=2), model_name="tiny")
    with served(app) as url:
        asyncio.run(app.room.close())
        assert refused(httpx.get(f"{url}/health"), 503)["type"] == "unavailable_error"
        assert refused(httpx.get(f"{url}/ready"), 503)["code"] == "not_ready"
