"""Law: whatever else a server writes, each request gets the text that it gets alone."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from receptance.inference import Engine, LanguageModel, Request, SamplingParams
from receptance.serving import Settings
from receptance.serving.engine_room import EngineRoom, Job
from receptance.serving.metrics import Metrics
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


class NoVowels:
    """A rule."""

    is_over = False

    def __init__(self) -> None:
        self._allowed = torch.ones(256, dtype=torch.bool)
        self._allowed[list(b"aeiou")] = False

    def allowed(self) -> Bool[Tensor, " V"]:
        return self._allowed

    def accept(self, token: int) -> None:
        assert self._allowed[token]


@dataclass(frozen=True)
class Client:
    """One who asks, and may leave."""

    job: Job
    leaves_after: int | None
    """How many pieces it reads before it leaves."""
    streams: bool


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    tokenizer = BytesTokenizer()
    return LanguageModel(random_rwkv4(2, 32, tokenizer.vocab_size), tokenizer, chunk_tokens=32)


def random_client(chance: random.Random, i: int) -> Client:
    owner = chance.choice("abc")
    # Keys share beginnings within themselves and with each other.
    prompt = " ".join(["once upon a time there was"] * chance.randint(0, 3))
    prompt += f" canary {chance.choice((i, 0))}" + "." * chance.randint(0, 60)
    options: dict[str, Any] = {}
    if chance.random() < 0.3:
        options["stop"] = (chance.choice("xyz"),)
    params = SamplingParams(
        max_tokens=chance.randint(1, 24),
        temperature=chance.choice((0.0, 0.8, 1.5)),
        repetition_penalty=chance.choice((1.0, 1.2)),
        seed=chance.randint(0, 3),
        **options,
    )
    request = Request(
        prompt,
        params,
        constraint=chance.choice((None, None, NoVowels)),
        cache_scope=chance.choice((None, owner, owner)),
    )
    leaves_after = chance.randint(0, 6) if chance.random() < 0.3 else None
    job = Job(request=request, owner=owner, n=chance.choice((1, 1, 1, 2, 4)))
    return Client(job, leaves_after, chance.random() < 0.7)


async def texts_of(room: EngineRoom, client: Client) -> list[str] | None:
    """Return what a client got; None if it left."""
    ticket = await room.submit(client.job)
    if not client.streams and client.leaves_after is None:
        return [each.generation.text for each in await ticket.finished()]
    texts, n_pieces = [""] * client.job.n, 0
    pieces = ticket.pieces()
    async for piece in pieces:
        texts[piece.index] += piece.text
        n_pieces += 1
        if client.leaves_after is not None and n_pieces > client.leaves_after:
            await pieces.aclose()
            return None
    return texts


async def serve(lm: LanguageModel, clients: list[Client]) -> list[list[str] | None]:
    settings = Settings(
        max_sequences=8,
        max_waiting=len(clients) * 4,
        max_waiting_per_key=len(clients) * 4,
        chunk_tokens=32,
        coalesce_seconds=0.001,
        state_cache_bytes=2**19,
        queue_seconds=600.0,
    )
    room = EngineRoom(lm, settings, Metrics())
    room.start()
    try:
        texts = await asyncio.gather(*(texts_of(room, each) for each in clients))
        assert room._metrics.value("state_cache_hits_total") > 0
    finally:
        await room.close()
    return texts


def check(lm: LanguageModel, n: int) -> None:
    chance = random.Random(n)
    clients = [random_client(chance, i) for i in range(n)]
    found = asyncio.run(serve(lm, clients))
    assert sum(each is not None for each in found) > n / 2
    for client, texts in zip(clients, found, strict=True):
        if texts is not None:
            assert texts == alone(lm, client.job)


def alone(lm: LanguageModel, job: Job) -> list[str]:
    engine = Engine(lm, max_sequences=4)
    request = job.request
    ids = engine.fork(Request(request.prompt, request.params, constraint=request.constraint), job.n)
    texts: dict[int, str] = {}
    while engine.n_running + engine.n_waiting:
        texts |= {
            each.id: each.generation.text for each in engine.step() if each.generation is not None
        }
    return [texts[each] for each in ids]


def test_mixed_requests_get_the_texts_that_they_get_alone(lm):
    check(lm, 80)


@pytest.mark.slow
def test_very_many_mixed_requests_get_the_texts_that_they_get_alone(lm):
    check(lm, 2000)
