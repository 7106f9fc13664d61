"""What comes is gathered until it is taken, and who does not take it loses the job."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from weakref import ref

import pytest

from receptance.errors import RequestError
from receptance.serving import Settings
from receptance.serving.engine_room import Finished, Piece, PromptRead, Ticket, TokenLogprobs
from tests.serving.engine_room.rooms import until


def ticket(n: int = 1, **limits: Any) -> tuple[Ticket, list[str]]:
    """A ticket, and the reasons for which the engine is told to forget it."""
    reasons: list[str] = []
    few: dict[str, Any] = {"coalesce_seconds": 0.0}
    settings = Settings(**(few | limits))
    return Ticket(n, settings, forget=lambda *args: reasons.append(args[2])), reasons


@pytest.fixture(scope="module")
def generation(lm):
    return lm.generate("a", max_tokens=1)


def finished(index, generation) -> Finished:
    return Finished(index, generation, 0.0, ())


async def reading(taken: Ticket) -> AsyncGenerator[Piece, None]:
    """A reader of a ticket that took one piece."""
    taken.put(0, "first", ())
    pieces = taken.pieces()
    await anext(pieces)
    return pieces


async def next_pieces(pieces, n: int) -> list[Piece]:
    return [await anext(pieces) for _ in range(n)]


def test_what_came_before_the_reader_is_one_piece_of_each_text():
    async def main():
        taken, _ = ticket(2)
        for index, text in [(1, "x"), (0, "a"), (1, "y")]:
            taken.put(index, text, ())
        assert await next_pieces(taken.pieces(), 2) == [
            Piece(1, "xy", (), None),
            Piece(0, "a", (), None),
        ]

    asyncio.run(main())


def test_the_last_piece_has_the_whole(generation):
    async def main():
        taken, _ = ticket()
        taken.put(0, "a", ())
        taken.put_finished(finished(0, generation))
        assert [each async for each in taken.pieces()] == [
            Piece(0, "a", (), finished(0, generation))
        ]
        assert await taken.finished() == [finished(0, generation)]

    asyncio.run(main())


def test_texts_come_in_the_order_of_their_index(generation):
    async def main():
        taken, _ = ticket(3)
        for index in (2, 0, 1):
            taken.put_finished(finished(index, generation))
        assert [each.index for each in await taken.finished()] == [0, 1, 2]

    asyncio.run(main())


def test_a_token_without_text_is_a_piece_only_with_its_numbers():
    async def main():
        taken, _ = ticket()
        numbers = TokenLogprobs(5, -0.5, ())
        taken.put(0, "", ())
        assert taken._pending == {}
        taken.put(0, "", (numbers,))
        assert await next_pieces(taken.pieces(), 1) == [Piece(0, "", (numbers,), None)]

    asyncio.run(main())


def test_pieces_behind_the_first_gather():
    async def main():
        taken, _ = ticket(coalesce_seconds=0.02)
        pieces = taken.pieces()
        taken.put(0, "a", ())
        assert (await anext(pieces)).text == "a"
        taken.put(0, "b", ())
        asyncio.get_running_loop().call_later(0.005, taken.put, 0, "c", ())
        assert (await anext(pieces)).text == "bc"

    asyncio.run(main())


def test_a_failure_comes_behind_what_was_written():
    async def main():
        taken, _ = ticket()
        taken.put(0, "a", ())
        taken.fail(RequestError("it broke", status=500))
        taken.fail(RequestError("only the first counts"))
        taken.put(0, "b", ())
        pieces = taken.pieces()
        assert (await anext(pieces)).text == "a"
        for wait in (anext(pieces), taken.finished(), taken.prompt()):
            with pytest.raises(RequestError, match="it broke"):
                await wait

    asyncio.run(main())


def test_a_prompt_that_was_read_is_known_even_if_the_job_fails():
    async def main():
        taken, _ = ticket()
        read = PromptRead(n_tokens=3)
        taken.put_prompt(read, 2.5)
        taken.put_prompt(PromptRead(n_tokens=4), 3.5)
        taken.fail(RequestError("it broke"))
        assert await taken.prompt() is read
        assert taken.read_at == 2.5

    asyncio.run(main())


def test_a_reader_that_lets_too_much_wait_loses_the_job():
    async def main():
        taken, reasons = ticket(backlog_bytes=10)
        pieces = await reading(taken)
        taken.put(0, "äöü", ())  # six bytes
        assert reasons == []
        taken.put(0, "äöü", ())
        assert reasons == ["backlog"]
        with pytest.raises(RequestError, match="read faster"):
            await anext(pieces)
        assert taken._pending == {}

    asyncio.run(main())


def test_numbers_of_tokens_count_as_what_waits():
    async def main():
        taken, reasons = ticket(backlog_bytes=200)
        _ = await reading(taken)
        taken.put(0, "a", (TokenLogprobs(5, -0.5, ((5, -0.5), (6, -1.0))),))
        assert reasons == []
        taken.put(0, "a", (TokenLogprobs(5, -0.5, ()),))
        assert reasons == ["backlog"]

    asyncio.run(main())


def test_a_reader_that_lets_it_wait_too_long_loses_the_job(generation):
    async def main():
        taken, reasons = ticket(backlog_seconds=0.01)
        pieces = await reading(taken)
        taken.put(0, "a", ())
        await until(lambda: reasons == ["backlog"])
        done, _ = ticket(backlog_seconds=0.01)  # nothing more comes, and yet it is not kept
        last = await reading(done)
        done.put_finished(finished(0, generation))
        await until(lambda: not done._pending)
        assert done._finished == {}
        for each in (pieces, last):
            with pytest.raises(RequestError, match="read faster"):
                await anext(each)

    asyncio.run(main())


def test_a_reader_that_takes_it_in_time_loses_nothing(generation):
    async def main():
        taken, reasons = ticket(backlog_seconds=0.01)
        pieces = await reading(taken)
        for put in (lambda: taken.put(0, "b", ()), lambda: taken.put_finished(last)):
            put()
            await anext(pieces)
            await asyncio.sleep(0.03)
        assert reasons == []
        assert await taken.finished() == [last]

    last = finished(0, generation)
    asyncio.run(main())


def test_who_has_not_begun_to_read_loses_nothing(generation):
    """The texts of several jobs may be asked for one after the other."""

    async def main():
        taken, reasons = ticket(backlog_bytes=1, backlog_seconds=0.01)
        taken.put(0, "far more", ())
        taken.put_finished(finished(0, generation))
        await asyncio.sleep(0.03)
        assert reasons == []
        assert [each.text async for each in taken.pieces()] == ["far more"]

    asyncio.run(main())


def test_who_waits_for_the_whole_keeps_no_pieces(generation):
    async def main():
        taken, _ = ticket()
        taken.put(0, "a", ())
        whole = asyncio.ensure_future(taken.finished())
        await asyncio.sleep(0)
        assert taken._pending == {}
        taken.put(0, "b", ())
        taken.put_finished(finished(0, generation))
        assert taken._pending == {}
        assert await whole == [finished(0, generation)]

    asyncio.run(main())


def test_every_ticket_has_an_id_of_its_own():
    async def main():
        assert len({ticket()[0].id for _ in range(100)}) == 100

    asyncio.run(main())


def test_a_cancel_names_its_reason():
    async def main():
        taken, reasons = ticket()
        taken.cancel("client")
        taken.cancel("client")
        assert reasons == ["client", "client"]

    asyncio.run(main())


def test_a_ticket_that_nobody_has_is_gone_with_what_it_holds(generation):
    async def main():
        taken, _ = ticket()
        pieces = await reading(taken)
        taken.put_finished(finished(0, generation))
        await pieces.aclose()
        there = ref(taken)
        del taken, pieces
        assert there() is None

    asyncio.run(main())
