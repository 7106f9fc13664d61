"""Who gets in, who waits, who is told to come again, and when it ends."""

import asyncio

import pytest

from receptance.errors import RequestError
from tests.serving.engine_room.rooms import LONG, held, job, open_room, until


def test_a_job_gets_the_text_that_the_model_writes(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job("a prompt of three chunks", 9))
            assert (await ticket.prompt()).n_tokens == 24
            (text,) = await ticket.finished()
            return text.generation

    found = asyncio.run(main())
    expected = lm.generate("a prompt of three chunks", job(n_tokens=9).request.params)
    assert (found.text, found.tokens) == (expected.text, expected.tokens)


def test_the_pieces_of_all_texts_joined_are_the_texts(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job(n=3, n_tokens=20))
            texts, lasts = ["", "", ""], []
            async for piece in ticket.pieces():
                texts[piece.index] += piece.text
                lasts += [piece.finished] if piece.finished else []
            assert [each.generation.text for each in await ticket.finished()] == texts
            assert sorted(each.index for each in lasts) == [0, 1, 2]
            assert len({each.generation.seed for each in lasts}) == 3

    asyncio.run(main())


def test_a_job_that_finds_no_place_is_told_at_once_when_to_come_again(lm):
    async def main():
        async with open_room(lm, max_sequences=2, max_waiting=1) as room:
            with held(room):  # it answers while the engine is busy
                tickets = [await room.submit(job()) for _ in range(3)]
                assert not room.is_ready
                with pytest.raises(RequestError, match="all 1 places") as refused:
                    await room.submit(job())
            for ticket in tickets:
                await ticket.finished()
            await (await room.submit(job())).finished()
        return refused.value

    error = asyncio.run(main())
    assert (error.status, error.code) == (429, "queue_full")
    assert error.retry_after is not None
    assert error.retry_after >= 1.0


def test_a_job_that_is_cancelled_is_forgotten(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job(n_tokens=LONG, n=2))
            await ticket.prompt()
            ticket.cancel("client")
            with pytest.raises(RequestError, match="cancelled"):
                await ticket.finished()
            await until(lambda: not room.n_running + room.n_waiting)
            assert room._metrics.value("cancelled_total", reason="client") == 1

    asyncio.run(main())
