"""From tickets to answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from receptance.errors import RequestError
from receptance.inference import LanguageModel, Request, SamplingParams
from receptance.serving.engine_room import EngineRoom, Job, Ticket
from receptance.serving.metrics import Metrics
from receptance.serving.routes.writing import Tally, leave_all, pieces_of, read_prompts
from receptance.serving.settings import Settings

SETTINGS = Settings(max_sequences=4, coalesce_seconds=0.0)


async def _room(lm: LanguageModel) -> EngineRoom:
    room = EngineRoom(lm, SETTINGS, Metrics())
    room.start()
    return room


def _jobs(*prompts: str, max_tokens: int = 5, n: int = 1) -> list[Job]:
    params = SamplingParams(max_tokens=max_tokens, seed=1)
    return [Job(request=Request(each, params), owner="me", n=n) for each in prompts]


def test_the_pieces_of_several_prompts_come_with_their_number(lm: LanguageModel):
    async def run() -> None:
        room = await _room(lm)
        tickets = await room.submit_all(_jobs("ab", "c", n=2))
        texts: dict[tuple[int, int], str] = {}
        n_finished = 0
        async for number, piece in pieces_of(tickets):
            key = number, piece.index
            texts[key] = texts.get(key, "") + piece.text
            n_finished += piece.finished is not None
        assert n_finished == 4
        assert sorted(texts) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert texts[0, 0] == lm.generate("ab", max_tokens=5, seed=1).text
        assert texts[1, 1] == lm.generate("c", max_tokens=5, seed=2).text
        await room.close()

    asyncio.run(run())


def test_what_fails_for_one_prompt_fails_for_all(lm: LanguageModel):
    async def run() -> None:
        room = await _room(lm)
        tickets = await room.submit_all(_jobs("ab", "c", max_tokens=5000))
        tickets[1].cancel("test")
        with pytest.raises(RequestError):
            async for _ in pieces_of(tickets):
                pass
        leave_all(tickets)
        await room.close()

    asyncio.run(run())


def test_a_job_that_is_over_is_not_cancelled_again(lm: LanguageModel):
    async def run() -> None:
        metrics = Metrics()
        room = EngineRoom(lm, SETTINGS, metrics)
        room.start()
        done, running = await room.submit_all([*_jobs("ab"), *_jobs("c", max_tokens=5000)])
        await done.finished()
        leave_all([done, running])
        with pytest.raises(RequestError):
            await running.finished()
        assert metrics.value("cancelled_total", reason="client") == 1
        await room.close()

    asyncio.run(run())


def test_a_tally_counts_prompts_once_and_all_texts(lm: LanguageModel):
    async def run() -> None:
        room = await _room(lm)
        tally = Tally()
        tickets = await room.submit_all(_jobs("ab", "c", n=2))
        await read_prompts(tickets, tally)
        for ticket in tickets:
            for each in await ticket.finished():
                tally.note(each)
        assert tally.usage["prompt_tokens"] == 3
        assert tally.usage["completion_tokens"] == 20
        timings = tally.timings
        assert timings["prompt_n"] == 3
        assert timings["predicted_n"] == 20
        assert timings["prompt_ms"] >= 0
        assert timings["predicted_per_second"] > 0
        await room.close()

    asyncio.run(run())


def test_the_times_are_the_engines_however_late_the_event_loop_hears_of_it(lm: LanguageModel):
    async def run() -> None:
        room = await _room(lm)
        tally = Tally()
        tickets = await room.submit_all(_jobs("ab", "c"))
        while room.n_running or not room.n_steps:
            time.sleep(0.001)  # the loop hears of nothing meanwhile
        time.sleep(0.05)
        over = time.monotonic() - 0.05
        await read_prompts(tickets, tally)
        for ticket in tickets:
            for each in await ticket.finished():
                tally.note(each)
        assert tally.began < tally.read < tally.written <= over
        timings = tally.timings
        assert timings["prompt_ms"] == 1000 * (tally.read - tally.began)
        assert timings["predicted_ms"] == 1000 * (tally.written - tally.read)
        await room.close()

    asyncio.run(run())


class _Ticket:
    """A ticket whose pieces never end."""

    async def pieces(self) -> AsyncIterator[Any]:
        while True:
            await asyncio.sleep(0)
            yield "piece"


def test_nothing_goes_on_when_the_pieces_are_wanted_no_more():
    async def run() -> None:
        pieces = pieces_of(cast(list[Ticket], [_Ticket(), _Ticket()]))
        await anext(pieces)
        await pieces.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
