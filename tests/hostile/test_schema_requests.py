"""Requests made from our own OpenAPI description, as it says and as it does not.

None makes the server fail, and each refusal has OpenAI's form.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.app import ServerApp, create_app
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.live import live

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

_NO_CHECKS: list[HealthCheck] = [*HealthCheck]  # type: ignore[list-item]  # they are made so
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def made(*, strict_params: bool) -> tuple[ServerApp, Settings]:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    limits = Settings(
        port=0,
        max_tokens=6,
        default_max_tokens=3,
        max_sequences=8,
        any_model_name=True,  # or else nearly all would end there
        strict_params=strict_params,
        probe_seconds=0.001,
    )
    return create_app(lm, limits, model_name="tiny"), limits


@pytest.fixture(params=[True, False], ids=["strict", "lenient"])
def server(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[tuple[httpx.Client, bool]]:
    app, limits = made(strict_params=request.param)
    with live(app, limits, app.room) as running, httpx.Client(base_url=running.address) as client:
        yield client, request.param
        assert app.room.n_running + app.room.n_waiting == 0
        assert app.service.metrics.value("engine_errors_total") == 0
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def check(response: httpx.Response) -> None:
    """Check that an answer is one that a server may give to anything."""
    assert response.status_code < 429, response.text
    assert response.headers["x-request-id"]
    if response.status_code >= 400:
        check_error(response.json())
    elif response.headers["content-type"].startswith("text/event-stream"):
        *events, done, empty = response.text.split("\n\n")
        last = json.loads(events[-1].removeprefix("data: ")) if not empty else {}
        assert empty == ""
        if done != "data: [DONE]":  # what goes wrong within a stream is its last event
            check_error(json.loads(done.removeprefix("data: ")))
        assert "error" not in last
    elif response.headers["content-type"] == "application/json":
        response.json()


def check_error(body: Any) -> None:
    """Check that an error has OpenAI's form, and is none of ours."""
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] != "server_error"
    assert "/src/" not in error["message"]
    assert "Traceback" not in error["message"]


def description(client: httpx.Client, *, is_strict: bool) -> dict[str, Any]:
    """Return what the server says of itself; where it is strict, of objects no field too many."""
    description = client.get("/openapi.json").json()
    for schema in description["components"]["schemas"].values():
        schema["additionalProperties"] = not is_strict
    return description


def attack(server: tuple[httpx.Client, bool], n: int) -> Counter[int]:
    """Send `n` requests of each kind to each path, and return how many got which status."""
    client, is_strict = server
    schema = schemathesis.openapi.from_dict(description(client, is_strict=is_strict))
    statuses: Counter[int] = Counter()
    for operation in schema.get_all_operations():
        one: Any = operation.ok()  # type: ignore[union-attr]  # it is
        # Nothing can be wrong of a body that there is not, or that is any bytes.
        is_json = any(each.media_type == "application/json" for each in one.body)
        for mode in MODES if is_json else MODES[:1]:
            strategy = one.as_strategy(generation_mode=mode)

            @given(case=strategy)
            @settings(
                max_examples=n if one.body else min(n, 5),
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=_NO_CHECKS,
            )
            def send(case: Any) -> None:
                sent = case.as_transport_kwargs(base_url=str(client.base_url))
                content = {"content": sent["data"]} if "data" in sent else {}
                sent = {k: v for k, v in sent.items() if k in ("method", "url", "headers", "json")}
                response = client.request(**sent, **content)
                check(response)
                statuses[response.status_code] += 1

            send()
    return statuses


def test_whatever_is_asked_the_server_answers_in_the_right_form(server):
    statuses = attack(server, 12)
    assert statuses.total() > 130
    assert min(statuses[200], statuses[400]) > 10


@pytest.mark.slow
def test_however_much_is_asked_the_server_answers_in_the_right_form(server):
    statuses = attack(server, 1400)
    assert statuses.total() > 10_000
    assert min(statuses[200], statuses[400]) > 500
