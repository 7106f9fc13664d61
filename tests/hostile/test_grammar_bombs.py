"""Grammars of one key that take too much, all at once, while another key has its texts written."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.access import KeyRing
from receptance.serving.app import create_app
from receptance.tokenizer import BytesTokenizer
from tests.hostile.grammars import BOMBS
from tests.random_models import random_rwkv4
from tests.serving.live import live

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

ANNA, MALLORY = ({"authorization": f"Bearer {name}-0123456789abcdef"} for name in ("a", "m"))
_LONG = {"model": "tiny", "prompt": "a", "max_tokens": 60, "temperature": 0, "stream": True}
_DIGITS = {"model": "tiny", "prompt": "a", "max_tokens": 9, "seed": 1}
_DIGITS |= {"response_format": {"type": "regex", "pattern": "[0-9]{5}"}}


def body_of(bomb: str | dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {"type": "regex", "pattern": bomb}
    if isinstance(bomb, dict):
        form = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": bomb}}
    return {"model": "tiny", "prompt": "a", "max_tokens": 5, "response_format": form}


async def siege(url: str, bombs: list[str | dict[str, Any]]) -> tuple[list[int], list[float]]:
    """Return how each bomb was answered, and how long each of Anna's texts took."""
    places = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def throw(bomb: str | dict[str, Any]) -> int:
            async with places:
                try:
                    body = body_of(bomb)
                    answer = await client.post("/v1/completions", json=body, headers=MALLORY)
                except RecursionError:  # our own JSON cannot even write it
                    return 400
            if answer.status_code != 200:
                error = answer.json()["error"]
                assert error["type"] in ("invalid_request_error", "request_too_large"), error
            return answer.status_code

        async def ask(body: dict[str, Any]) -> str:
            answer = await client.post("/v1/completions", json=body, headers=ANNA)
            assert answer.status_code == 200
            return answer.text if body.get("stream") else answer.json()["choices"][0]["text"]

        throwing = asyncio.gather(*(throw(each) for each in bombs))
        seconds: list[float] = []
        while not throwing.done() or not seconds:
            began = time.monotonic()
            text, digits = await asyncio.gather(ask(_LONG), ask(_DIGITS))
            seconds.append(time.monotonic() - began)
            assert text.endswith("data: [DONE]\n\n")
            assert len(digits) == 5
            assert digits.isdigit()
        assert (await client.get("/health")).status_code == 200
        return await throwing, seconds


def check(bombs: list[str | dict[str, Any]]) -> None:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    settings = Settings(port=0, max_sequences=8, max_waiting=64)
    keys = KeyRing(["a:a-0123456789abcdef", "m:m-0123456789abcdef"])
    app = create_app(lm, settings, keys=keys, model_name="tiny")
    with live(app, settings, app.room) as server:
        statuses, seconds = asyncio.run(siege(server.address, bombs))
        assert app.service.metrics.value("engine_errors_total") == 0
        assert app.room.n_running + app.room.n_waiting == 0
    assert set(statuses) <= {200, 400, 413}
    assert {200, 400} <= set(statuses)
    # One of the bombs may be before hers each time, and takes a second of computing at most.
    assert sorted(seconds)[len(seconds) // 2] < 5


def test_another_key_has_its_texts_while_grammars_explode():
    check(list(BOMBS.values())[::9])


@pytest.mark.slow
def test_another_key_has_its_texts_while_all_grammars_explode():
    check(list(BOMBS.values()))
