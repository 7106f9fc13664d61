"""Bodies in which a great many things are wrong: one is told, and nobody waits for the others."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.app import create_app
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.event_streams import refused
from tests.serving.live import Live, live

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

_MANY = 60_000
_MANY_OBJECTS = 16_000  # a few below the most that a body may have
_WRONG = {"role": "wizard", "content": 1, "x": 2}
_ASKED = {"model": "tiny", "prompt": "a", "max_tokens": 1}
BODIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "messages": (
        "/v1/chat/completions",
        {"model": "tiny", "messages": [_WRONG] * _MANY_OBJECTS},
        "messages[0].role",
    ),
    "parts": (
        "/v1/chat/completions",
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": [{"type": "a"}] * _MANY_OBJECTS}],
        },
        "messages[0].content[0].type",
    ),
    "biases": (
        "/v1/completions",
        {**_ASKED, "logit_bias": {str(i): "x" for i in range(_MANY)}},
        "logit_bias.0",
    ),
    "biases that are too many": (
        "/v1/completions",
        {**_ASKED, "logit_bias": {str(i): 1 for i in range(_MANY)}},
        "logit_bias",
    ),
    "stops": ("/v1/completions", {**_ASKED, "stop": [1] * 10 * _MANY}, "stop[0]"),
    "tokens": ("/detokenize", {"tokens": ["a"] * 10 * _MANY}, "tokens[0]"),
    "more tokens than a prompt has": ("/detokenize", {"tokens": [1] * 2000}, "tokens"),
    "more text than a prompt has": ("/tokenize", {"prompt": "a" * 2000}, "prompt"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Live, asyncio.AbstractEventLoop]]:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    settings = Settings(port=0, max_sequences=2, max_prompt_tokens=1000)
    app = create_app(lm, settings, model_name="tiny")
    with live(app, settings, app.room) as server:
        assert app.room._loop is not None
        yield server, app.room._loop


class Watch:
    """How much computing the event loop did at most between two looks at it."""

    def __init__(self) -> None:
        self._is_over = threading.Event()

    async def longest(self) -> float:
        longest, last = 0.0, time.thread_time()
        while not self._is_over.is_set():
            await asyncio.sleep(0.002)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
        return longest

    def end(self) -> None:
        self._is_over.set()


@pytest.mark.parametrize("name", BODIES)
def test_of_many_wrong_things_the_first_is_told_and_no_other_client_waits(server, name: str):
    running, loop = server
    path, body, param = BODIES[name]
    watch = Watch()
    looking = asyncio.run_coroutine_threadsafe(watch.longest(), loop)
    headers = {"content-type": "application/json"}
    content = json.dumps(body).encode()
    try:
        answer = httpx.post(
            f"{running.address}{path}", content=content, headers=headers, timeout=60
        )
    finally:
        time.sleep(0.01)
        watch.end()
    assert refused(answer, 400)["param"] == param
    assert looking.result(10) < 0.8  # it was up to twelve seconds
