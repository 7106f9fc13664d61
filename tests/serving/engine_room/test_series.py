"""Many jobs of one request take few places, come in order, and end together."""

import asyncio
import time
from dataclasses import replace

import pytest

from receptance.errors import RequestError
from receptance.serving.engine_room import Job
from tests.serving.engine_room.rooms import LONG, held, job, open_room, until


def test_all_of_a_series_are_written_a_few_at_once_and_are_as_alone(lm):
    async def main():
        async with open_room(lm, max_waiting=0) as room:
            most = 0
            jobs = [job(f"prompt {i}", 3) for i in range(9)]
            tickets = await room.submit_series(jobs, at_once=2)
            assert room._admission.n_open == 2
            while not all(each.is_over for each in tickets):
                most = max(most, room._admission.n_open)
                await asyncio.sleep(0)
            texts = [(await each.finished())[0].generation.text for each in tickets]
            await until(lambda: not room._places)
            assert not room._series
            assert most == 2
            return texts

    texts = asyncio.run(main())
    assert texts == [lm.generate(f"prompt {i}", job("", 3).request.params).text for i in range(9)]


def test_a_series_that_finds_no_place_or_has_a_wrong_prompt_takes_none(lm):
    async def main():
        async with open_room(lm, max_waiting=0) as room:
            with pytest.raises(RequestError, match="must be tokens"):
                await room.submit_series([job(), job(), job([999])], at_once=1)
            assert room._admission.n_open == 0
            others = await room.submit_all([job(n_tokens=LONG)] * 2)
            with pytest.raises(RequestError) as full:
                await room.submit_series([job()] * 5, at_once=2)
            assert full.value.code == "queue_full"
            for each in others:
                each.cancel("client")
            await until(lambda: not room._places)

    asyncio.run(main())


def test_when_one_fails_those_that_wait_fail_with_it(lm):
    def series(arrived: float) -> list[Job]:
        return [replace(job(n_tokens=LONG), arrived=arrived) for _ in range(4)]

    async def main():
        async with open_room(lm, request_seconds=60.0) as room:
            # All have one deadline, those that have not begun, too.
            for each in await room.submit_series(series(time.monotonic() - 61), at_once=1):
                with pytest.raises(RequestError, match="may take 60 seconds"):
                    await each.finished()
            tickets = await room.submit_series(series(time.monotonic()), at_once=2)
            await tickets[0].prompt()
            for each in tickets:
                each.cancel("client")
            for each in tickets:
                with pytest.raises(RequestError, match="cancelled"):
                    await each.finished()
            await until(lambda: not room._places)
            assert not room._series
            assert room._admission.n_open == 0

    asyncio.run(main())


def test_who_follows_does_not_wait_for_its_turn_once_more(lm):
    async def main():
        async with open_room(lm, queue_seconds=0.05) as room:
            first, second = await room.submit_series([job(n_tokens=60), job()], at_once=1)
            await first.prompt()
            async with held(room):
                await asyncio.sleep(0.06)
            await first.finished()
            await second.finished()

    asyncio.run(main())


def test_those_that_were_cancelled_while_they_waited_never_begin(lm):
    async def main():
        async with open_room(lm) as room:
            first, *others = await room.submit_series([job() for _ in range(4)], at_once=1)
            for each in others:  # the first ends by itself, as if it had when the client left
                each.cancel("client")
            await first.finished()
            for each in others:
                with pytest.raises(RequestError, match="cancelled"):
                    await each.finished()
            await until(lambda: not room._places)
            assert room._metrics.value("prompt_tokens_total") == len("a prompt")

    asyncio.run(main())


def test_a_room_that_drains_waits_for_those_that_follow(lm):
    async def main():
        async with open_room(lm) as room:
            tickets = await room.submit_series([job() for _ in range(3)], at_once=1)
            await room.drain(60.0)
            assert all(each.is_over for each in tickets)

    asyncio.run(main())
