"""Who would find no place costs nothing; all others pass."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from receptance.errors import RequestError
from receptance.serving.routes.turning_away import PATHS, TurningAway
from tests.serving.engine_room.rooms import held, job, open_room


def test_only_who_wants_a_place_is_turned_away_while_there_is_none(lm):
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        passed.append(scope["path"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    async def main():
        async with open_room(lm, max_sequences=1, max_waiting=1) as room:
            door = TurningAway(app, room)

            async def ask(path: str, method: str = "POST") -> None:
                scope = {"type": "http", "method": method, "path": path, "state": {"owner": "me"}}
                await door(scope, nothing, nothing)

            for path in PATHS:
                await ask(path)
            assert passed == list(PATHS)
            async with held(room):
                tickets = [await room.submit(job()) for _ in range(2)]
                for path in PATHS:
                    with pytest.raises(RequestError, match="all 1 places") as refused:
                        await ask(path)
                    assert refused.value.status == 429
                    assert (refused.value.retry_after or 0.0) >= 1.0
                await ask("/tokenize")
                await ask("/v1/completions", "GET")
            assert room._metrics.value("rejected_total", reason="queue_full") == len(PATHS)
            for ticket in tickets:
                await ticket.finished()

    asyncio.run(main())
    assert passed[-2:] == ["/tokenize", "/v1/completions"]
    assert len(passed) == len(PATHS) + 2
