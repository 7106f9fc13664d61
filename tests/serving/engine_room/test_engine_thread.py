"""Orders are obeyed between steps, and an engine that breaks takes nobody's hope along."""

import asyncio
import math
import random
import threading
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch

from receptance.errors import RequestError
from receptance.inference import Engine, TokenLogprobs
from receptance.inference.runner import Runner
from receptance.serving.engine_room import EngineRoom, Job, engine_maker
from receptance.serving.engine_room.engine_thread import EngineThread
from tests.serving.engine_room.rooms import LONG, held, job, open_room, until


def test_when_the_engine_breaks_every_job_fails_and_the_next_one_is_written(lm, monkeypatch):
    async def main():
        async with open_room(lm) as room:
            tickets = await room.submit_all([job(n_tokens=LONG)] * 5)
            await tickets[0].prompt()
            with monkeypatch.context() as broken:
                broken.setattr(Engine, "step", lambda *_: 1 / 0)
                for ticket in tickets:
                    with pytest.raises(RequestError, match="the engine broke") as failed:
                        await ticket.finished()
                    assert (failed.value.status, failed.value.code) == (500, "engine_error")
            assert room.n_running + room.n_waiting == 0
            await (await room.submit(job())).finished()

    asyncio.run(main())


def test_a_text_that_fails_takes_no_other_along(lm):
    async def main():
        broken = lm.prefill("x")
        for tensor in broken.tensors.values():
            tensor.fill_(math.nan)
        async with open_room(lm) as room:
            good = await room.submit(job("a good prompt", n_tokens=30))
            request = replace(job().request, state=broken)
            bad = await room.submit(Job(request=request, owner="someone"))
            with pytest.raises(RequestError, match="not finite") as failed:
                await bad.finished()
            assert (failed.value.status, failed.value.code) == (500, "model_diverged")
            (text,) = await good.finished()
            assert room._metrics.value("engine_errors_total") == 0
            return text.generation.text

    found = asyncio.run(main())
    assert found == lm.generate("a good prompt", job(n_tokens=30).request.params).text


class Broken:
    """A rule that breaks at its third token."""

    is_over = False

    def __init__(self) -> None:
        self.n = 0

    def allowed(self) -> torch.Tensor:
        if self.n == 3:
            raise RuntimeError("/a/path and a prompt")
        return torch.ones(256, dtype=torch.bool)

    def accept(self, token: int) -> None:
        self.n += token > 0


def test_what_broke_within_a_text_is_not_told_to_the_client_or_the_log(lm, caplog):
    async def main():
        async with open_room(lm) as room:
            request = replace(job().request, constraint=Broken)
            ticket = await room.submit(Job(request=request, owner="someone"))
            with pytest.raises(RequestError, match="failed within the engine") as failed:
                await ticket.finished()
            assert (failed.value.status, failed.value.code) == (500, "engine_error")
            assert "path" not in str(failed.value)

    asyncio.run(main())
    assert "RuntimeError < test_engine_thread.py" in caplog.text
    assert "prompt" not in caplog.text


def test_logprobs_come_with_the_pieces_and_the_whole(lm):
    async def main():
        async with open_room(lm) as room:
            request = replace(job(n_tokens=6).request, logprobs=2, prompt_logprobs=0)
            ticket = await room.submit(Job(request=request, owner="someone", n=2))
            tokens: dict[int, list[TokenLogprobs]] = {0: [], 1: []}
            async for piece in ticket.pieces():
                tokens[piece.index] += piece.tokens
            for text in await ticket.finished():
                assert list(text.tokens) == tokens[text.index]
                assert tuple(each.token for each in text.tokens) == text.generation.tokens
                assert {len(each.top) for each in text.tokens} == {2}
            read = await ticket.prompt()
            assert read.logprobs is not None
            assert len(read.logprobs) == read.n_tokens

    asyncio.run(main())


def test_a_job_without_a_token_only_reads_its_prompt(lm):
    async def main():
        async with open_room(lm) as room:
            request = replace(job("a prompt", 0).request, wants_features=True)
            ticket = await room.submit(Job(request=request, owner="someone"))
            (piece,) = [each async for each in ticket.pieces()]
            assert piece.finished is not None
            assert (piece.text, piece.finished.generation.finish_reason) == ("", "length")
            read = await ticket.prompt()
            assert (read.n_tokens, read.features is None) == (8, False)
            await until(lambda: not room.n_running)

    asyncio.run(main())


def test_a_token_is_out_before_the_model_is_fed(lm, monkeypatch):
    may_feed = threading.Event()
    decode = Runner.decode
    monkeypatch.setattr(Runner, "decode", lambda *given: (may_feed.wait(10), decode(*given))[1])

    async def main():
        async with open_room(lm) as room:
            pieces = (await room.submit(job(n_tokens=3))).pieces()
            first = await asyncio.wait_for(anext(pieces), 5)
            assert first.finished is None
            assert not may_feed.is_set()
            may_feed.set()
            *_, last = [each async for each in pieces]
            assert last.finished is not None

    asyncio.run(main())


def test_an_engine_that_breaks_too_often_stays_down(lm, monkeypatch):
    async def main():
        async with open_room(lm, max_engine_restarts_per_hour=2) as room:
            monkeypatch.setattr(Engine, "step", lambda *_: 1 / 0)
            for is_left in (True, True, False):
                with pytest.raises(RequestError, match="the engine broke"):
                    await (await room.submit(job())).finished()
                await until(lambda is_left=is_left: room.is_alive == is_left)
            assert not room.is_ready
            for ask in (room.submit(job()), room.run(lambda: 5)):
                with pytest.raises(RequestError, match="the engine is down") as refused:
                    await ask
                assert (refused.value.status, refused.value.code) == (503, "engine_dead")
            assert room._metrics.value("engine_errors_total") == 3
            await room.until_dead()

    asyncio.run(main())


@pytest.mark.parametrize(("n_failing", "is_back"), [(3, True), (99, False)])
def test_an_engine_that_can_not_be_made_is_tried_as_often_as_allowed(
    lm, monkeypatch, n_failing, is_back
):
    monkeypatch.setattr(engine_maker, "_REMAKE_SECONDS", 0.01)
    make = Engine.__init__
    alive: list[bool] = []  # whether the one that broke still took memory, at each trial

    def fail_at_first(*given: Any, **named: Any) -> None:
        alive.append(broken() is not None)
        if len(alive) <= n_failing:
            raise MemoryError
        make(*given, **named)

    def break_in_a_frame(_engine: Engine, _tell: object) -> None:
        try:
            next(iter(()))
        except StopIteration as error:
            raise RuntimeError from error

    async def main():
        async with open_room(lm, max_engine_restarts_per_hour=4) as room:
            monkeypatch.setattr(Engine, "__init__", fail_at_first)
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "step", break_in_a_frame)
                for ticket in await room.submit_all([job()] * 3):
                    with pytest.raises(RequestError, match="the engine broke"):
                        await ticket.finished()
            await until(lambda: len(alive) == 4)
            await until(lambda: room.is_alive == is_back)
            if is_back:
                await (await room.submit(job())).finished()
            await until(lambda: room._thread._maker.seconds_to_remake() is None)
            assert alive == [False] * 4

    room_engine = EngineRoom._make_engine
    engines: list[weakref.ref[Engine]] = []

    def noted(room: EngineRoom) -> Engine:
        engine = room_engine(room)
        engines.append(weakref.ref(engine))
        return engine

    def broken() -> Engine | None:
        return engines[0]()

    monkeypatch.setattr(EngineRoom, "_make_engine", noted)
    asyncio.run(main())


def test_a_job_is_forgotten_within_a_step_even_while_its_prompt_is_read(lm, monkeypatch):
    steps: list[int] = []
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda self, tell: (steps.append(1), step(self, tell))[1])

    async def main():
        async with open_room(lm) as room:
            for asked in (job("x" * 20_000), job(n_tokens=LONG)):
                ticket = await room.submit(asked)
                await until(lambda: steps)
                async with held(room):
                    ticket.cancel("client")
                    before = len(steps)
                with pytest.raises(RequestError, match="cancelled"):
                    await ticket.finished()
                await until(lambda: not room.n_running)
                assert len(steps) - before <= 1
                steps.clear()

    asyncio.run(main())


def test_a_reader_that_reads_nothing_delays_nobody_and_loses_its_job(lm):
    async def main():
        async with open_room(lm, backlog_bytes=200) as room:
            slow = await room.submit(job("slow", n_tokens=LONG))
            reading = slow.pieces()
            await anext(reading)  # and then its socket takes no more
            quick = [await room.submit(job(f"quick {i}", n_tokens=40)) for i in range(4)]
            texts = [(await each.finished())[0].generation.text for each in quick]
            await until(lambda: slow.is_over)
            with pytest.raises(RequestError, match="read faster") as failed:
                await anext(reading)
            assert failed.value.code == "backlog"
            await until(lambda: not room.n_running)
            assert room._metrics.value("cancelled_total", reason="backlog") == 1
        return texts

    texts = asyncio.run(main())
    params = job(n_tokens=40).request.params
    assert texts == [lm.generate(f"quick {i}", params).text for i in range(4)]


def test_a_reader_that_stops_reading_cancels_its_job(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job(n_tokens=LONG))
            pieces = ticket.pieces()
            await anext(pieces)
            await pieces.aclose()
            await until(lambda: not room.n_running)

    asyncio.run(main())


@pytest.mark.usefixtures("unchecked_shapes")
def test_jobs_that_are_aborted_at_any_moment_leave_nothing(lm):
    """No place, no slot and no task; and those that stay get what they would get alone."""

    async def use(room: EngineRoom, i: int, chance: random.Random) -> str | None:
        asked = job(f"prompt {i} " * chance.randint(1, 12), n_tokens=8, n=chance.randint(1, 3))
        ticket = await room.submit(asked)
        if chance.random() < 0.7:
            for _ in range(chance.randint(0, 12)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.random() * 0.02)
            ticket.cancel("client")
            with suppress(RequestError):
                await ticket.finished()
            return None
        texts = [""] * asked.n
        async for piece in ticket.pieces():
            texts[piece.index] += piece.text
        assert texts[0] == lm.generate(asked.request.prompt, asked.request.params).text
        return texts[0]

    async def main():
        chance = random.Random(0)
        async with open_room(lm, max_waiting=1000, max_waiting_per_key=1000) as room:
            tasks = asyncio.all_tasks()
            texts = await asyncio.gather(*(use(room, i, chance) for i in range(60)))
            assert sum(each is not None for each in texts) > 5
            await until(lambda: not room.n_running + room.n_waiting)
            assert asyncio.all_tasks() == tasks
            assert not room._places
            assert await room.run(lambda: left_of(room._thread)) == (3, 0, 0, 0, 0)

    asyncio.run(main())


def left_of(thread: EngineThread) -> tuple[int, ...]:
    assert thread._maker.engine is not None
    left = (thread._families, thread._line, thread._by_id, thread._line._running_of)
    return (thread._maker.engine._pool.n_free, *map(len, left))
