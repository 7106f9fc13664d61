"""Law: of what one client sends, nothing is found in what another gets, by no way of the server.

Each answer is also, bit for bit, the one that the same request gets from a server that does
nothing else and remembers nothing: so not even a state was another's.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.access import KeyRing
from receptance.serving.app import ServerApp, create_app
from receptance.tokenizer import BytesTokenizer
from tests.laws.mixed_clients import CANARY, KEYS, Asked, Told, ask, random_request
from tests.random_models import random_rwkv4
from tests.serving.live import live

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

_AT_ONCE = 24


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    tokenizer = BytesTokenizer()
    return LanguageModel(random_rwkv4(2, 32, tokenizer.vocab_size), tokenizer, chunk_tokens=64)


@contextmanager
def serving(lm: LanguageModel, *, cache_bytes: int) -> Iterator[tuple[ServerApp, str]]:
    settings = Settings(
        port=0,
        max_sequences=8,
        max_waiting=256,
        max_waiting_per_key=256,
        chunk_tokens=64,
        coalesce_seconds=0.002,
        state_cache_bytes=cache_bytes,
        queue_seconds=600.0,
        keep_alive_seconds=5.0,
    )
    keys = KeyRing([f"{name}:{key}" for name, key in KEYS.items()])
    app = create_app(lm, settings, keys=keys, model_name="tiny")
    with live(app, settings, app.room) as server:
        yield app, server.address


async def ask_all(url: str, requests: list[Asked], at_once: int) -> list[Told]:
    places = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def one(asked: Asked) -> Told:
            async with places:
                return await ask(client, asked)

        return await asyncio.gather(*(one(each) for each in requests))


def patient(asked: Asked) -> Asked:
    return Asked(asked.owner, asked.path, asked.body, asked.canary, None, None)


def check(lm: LanguageModel, n: int, caplog: pytest.LogCaptureFixture) -> dict[str, float]:
    draw = random.Random(n)
    requests = [random_request(draw) for _ in range(n)]
    with caplog.at_level(logging.INFO), serving(lm, cache_bytes=2**19) as (app, url):
        found = asyncio.run(ask_all(url, requests, _AT_ONCE))
        numbers = app.service.metrics
        hits = numbers.value("state_cache_hits_total")
        assert not CANARY.search(numbers.render().decode())
        assert numbers.value("engine_errors_total") == 0
    assert not CANARY.search(caplog.text)
    stayed = [each for each, told in zip(requests, found, strict=True) if told.answer is not None]
    with serving(lm, cache_bytes=0) as (_, url):
        alone = asyncio.run(ask_all(url, [patient(each) for each in stayed], 1))
    expected = iter(alone)
    n_seen = 0
    for asked, told in zip(requests, found, strict=True):
        seen = set(CANARY.findall(told.raw))
        n_seen += bool(seen)
        assert seen <= {asked.canary}, asked
        if told.answer is not None:
            assert told.answer == next(expected).answer, asked
    return {"stayed": len(stayed), "hits": hits, "seen": n_seen}


def test_mixed_clients_get_what_they_get_alone_and_nothing_of_others(lm, caplog):
    counts = check(lm, 60, caplog)
    # Who left, who was remembered, and secrets that came back to their own: all were there.
    assert 30 < counts["stayed"] < 60
    assert counts["hits"] > 5
    assert counts["seen"] > 10


@pytest.mark.slow
def test_very_many_mixed_clients_get_what_they_get_alone_and_nothing_of_others(lm, caplog):
    counts = check(lm, 2000, caplog)
    assert counts["stayed"] > 1000
    assert counts["hits"] > 200
    assert counts["seen"] > 500
