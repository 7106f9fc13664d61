"""Orders are obeyed between steps, and an engine that breaks takes nobody's hope along."""

import asyncio

import pytest

from receptance.errors import RequestError, TokenizerError
from receptance.inference import Engine
from receptance.serving.engine_room.engine_thread import as_request_error
from tests.serving.engine_room.rooms import LONG, job, open_room


def test_when_the_engine_breaks_every_job_fails_and_the_next_one_is_written(lm, monkeypatch):
    async def main():
        async with open_room(lm) as room:
            tickets = [await room.submit(job(n_tokens=LONG)) for _ in range(5)]
            await tickets[0].prompt()
            with monkeypatch.context() as broken:
                broken.setattr(Engine, "step", lambda _: 1 / 0)
                for ticket in tickets:
                    with pytest.raises(RequestError, match="the engine broke") as failed:
                        await ticket.finished()
                    assert (failed.value.status, failed.value.code) == (500, "engine_error")
            assert room.n_running + room.n_waiting == 0
            await (await room.submit(job())).finished()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("`top_k` must be"), 400, "`top_k` must be"),
        (TokenizerError("no such token"), 400, "no such token"),
        (RuntimeError("/a/path"), 500, "this text failed"),
        (RequestError("too late", status=408), 408, "too late"),
    ],
)
def test_a_wrong_argument_is_told_and_all_else_is_not(error, status, message):
    found = as_request_error(error)
    assert found.status == status
    assert str(found).startswith(message)
