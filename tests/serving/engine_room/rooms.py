"""A room to test in, and what to ask it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from receptance.inference import LanguageModel, Request, SamplingParams
from receptance.serving import Settings
from receptance.serving.engine_room import EngineRoom, Job
from receptance.serving.metrics import Metrics

LONG = 10_000
"""More tokens than any test waits for."""


@asynccontextmanager
async def open_room(lm: LanguageModel, **limits: Any) -> AsyncIterator[EngineRoom]:
    """A room with three places and a queue of four, which is closed at the end."""
    few: dict[str, Any] = {
        "max_sequences": 3,
        "max_waiting": 4,
        "chunk_tokens": 8,
        "coalesce_seconds": 0.0,
    }
    room = EngineRoom(lm, Settings(**(few | limits)), Metrics())
    room.start()
    try:
        yield room
    finally:
        await room.close()


def job(
    prompt: str | list[int] = "a prompt",
    n_tokens: int = 5,
    *,
    n: int = 1,
    owner: str = "someone",
    max_seconds: float | None = None,
    param: str = "prompt",
    **options: Any,
) -> Job:
    """Ask for texts of so many tokens, which the end of a text does not cut."""
    params = SamplingParams(max_tokens=n_tokens, seed=1, logit_bias={0: -1000.0}, **options)
    request = Request(prompt, params)
    return Job(request=request, n=n, owner=owner, max_seconds=max_seconds, param=param)


@asynccontextmanager
async def held(room: EngineRoom) -> AsyncIterator[None]:
    """Keep the engine from taking a step."""
    is_held, gate = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        gate.wait(10)

    holding = asyncio.ensure_future(room.run(hold))
    await until(is_held.is_set)
    try:
        yield
    finally:
        gate.set()
        await holding


async def until(condition: Any) -> None:
    """Wait until something is so."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to be")
