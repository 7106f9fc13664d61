"""A job has a time to begin and a time to end, both from its arrival, whatever the engine does."""

import asyncio
import time
from dataclasses import replace

import pytest

from receptance.errors import RequestError
from receptance.serving import Settings
from receptance.serving.engine_room.deadlines import first_deadline
from tests.serving.engine_room.rooms import LONG, held, job, open_room, until


@pytest.mark.parametrize(
    ("limits", "seconds", "told"),
    [
        ({"queue_seconds": 5.0}, 5.0, (503, "queue_timeout", "may wait 5 seconds")),
        ({"request_seconds": 2.5}, 2.5, (408, "timeout", "may take 2.5 seconds")),
    ],
)
def test_the_first_deadline_is_that_of_the_queue_or_of_the_whole(limits, seconds, told):
    found, error = first_deadline(Settings(**limits))
    assert found == seconds
    assert (error.status, error.code) == told[:2]
    assert told[2] in str(error)


def test_a_job_that_waits_too_long_for_its_turn_is_told(lm):
    async def main():
        async with open_room(lm, queue_seconds=0.02) as room:
            async with held(room):
                late = await room.submit(job())
                with pytest.raises(RequestError, match=r"may wait 0\.02 seconds") as failed:
                    await late.finished()
            assert (failed.value.status, failed.value.code) == (503, "queue_timeout")
            await until(lambda: room.n_waiting == 0)
            assert room._metrics.value("cancelled_total", reason="queue_timeout") == 1

    asyncio.run(main())


def test_a_job_that_began_in_time_may_go_on(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job(n_tokens=LONG))
            await ticket.prompt()
            room._end_waiting(ticket, RequestError("late"))
            assert not ticket.is_over

    asyncio.run(main())


@pytest.mark.parametrize("limits", [{"request_seconds": 0.02}, {}])
def test_a_job_ends_at_its_deadline(lm, limits):
    async def main():
        async with open_room(lm, **limits) as room:
            asked = job(n_tokens=LONG, max_seconds=None if limits else 0.02)
            ticket = await room.submit(asked)
            with pytest.raises(RequestError, match=r"may take 0\.02 seconds") as failed:
                async for _ in ticket.pieces():
                    pass
            assert (failed.value.status, failed.value.code) == (408, "timeout")
            await until(lambda: room.n_running == 0)

    asyncio.run(main())


def test_the_time_before_a_job_was_sent_counts(lm):
    async def main():
        async with open_room(lm, request_seconds=60.0) as room:
            sent = replace(job(n_tokens=LONG), arrived=time.monotonic() - 61)
            with pytest.raises(RequestError, match="may take 60 seconds"):
                await (await room.submit(sent)).finished()
            await until(lambda: not room._places)

    asyncio.run(main())


def test_a_deadline_holds_though_the_engine_is_stuck(lm):
    async def main():
        async with open_room(lm) as room:
            async with held(room):
                ticket = await room.submit(job(max_seconds=0.01))
                with pytest.raises(RequestError, match="may take"):
                    await ticket.prompt()
            await until(lambda: room.n_waiting == 0)

    asyncio.run(main())
