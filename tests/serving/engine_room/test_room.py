"""Who gets in, who waits, who is told to come again, and when it ends."""

import asyncio
import threading
from dataclasses import replace

import pytest

from receptance.errors import RequestError
from receptance.inference import Engine
from receptance.serving import Settings
from receptance.serving.engine_room import EngineRoom, Job, Ticket
from receptance.serving.metrics import Metrics
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
            async with held(room):  # it answers while the engine is busy
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


def test_several_jobs_are_taken_or_none_of_them(lm):
    async def main():
        async with open_room(lm, max_sequences=2, max_waiting=1) as room:
            async with held(room):
                with pytest.raises(RequestError, match="at most 3 texts"):
                    await room.submit_all([job(), job(), job(n=2)])
                with pytest.raises(RequestError, match="tokens from 0 to 255"):
                    await room.submit_all([job(), job([256])])
                assert room.n_waiting == 0
                tickets = await room.submit_all([job("a"), job("b"), job("c")])
            assert [len(await each.finished()) for each in tickets] == [1, 1, 1]

    asyncio.run(main())


def test_a_key_has_only_so_many_places_in_the_queue(lm):
    async def main():
        async with open_room(lm, max_sequences=1, max_waiting_per_key=1) as room:
            await (await room.submit(job(n_tokens=LONG, owner="greedy"))).prompt()
            await room.submit(job(owner="greedy"))
            with pytest.raises(RequestError, match="all 1 places of this key") as refused:
                await room.submit(job(owner="greedy"))
            assert (refused.value.status, refused.value.code) == (429, "queue_full")
            await room.submit(job(owner="other"))

    asyncio.run(main())


def test_a_key_that_may_not_wait_gets_a_place_that_is_free(lm):
    async def main():
        async with open_room(lm, max_waiting_per_key=0) as room:
            await (await room.submit(job())).finished()
            assert room._admission.n_waiting_of("someone") == 0

    asyncio.run(main())


def test_who_has_fewest_texts_running_is_next(lm):
    async def main():
        order: list[str] = []

        async def write(name: str, ticket: Ticket) -> None:
            await ticket.finished()
            order.append(name)

        async with open_room(lm, max_sequences=2) as room:
            async with held(room):
                tasks = [
                    asyncio.ensure_future(write(name, await room.submit(job(owner=name[0]))))
                    for name in ("a1", "a2", "a3", "b1", "b2")
                ]
            await asyncio.gather(*tasks)
        return order

    order = asyncio.run(main())
    assert set(order[:2]) == {"a1", "b1"}
    assert set(order[2:4]) == {"a2", "b2"}


@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        ({"prompt": [1, 256, 3]}, "tokens from 0 to 255, but one is 256", "prompt"),
        ({"prompt": [1, -1]}, "but one is -1", "prompt"),
        ({"prompt": [10**99], "param": "input[7]"}, r"`input\[7\]` must be .* 10{59}$", "input[7]"),
        ({"prompt": "x" * 3001}, "at most 3000 tokens", "prompt"),
        ({"prompt": [5] * 3001}, "at most 3000 tokens", "prompt"),
        ({"n": 4}, "`n` must be at most 3", "n"),
    ],
)
def test_what_is_wrong_with_a_job_is_told_before_it_waits(lm, asked, message, param):
    async def main():
        async with open_room(lm, max_prompt_tokens=3000) as room:
            with pytest.raises(RequestError, match=message) as refused:
                await room.submit(job(**asked))
            assert (refused.value.status, refused.value.param) == (400, param)
            assert room.n_running + room.n_waiting == 0

    asyncio.run(main())


def test_an_empty_prompt_behind_a_state_is_refused_and_without_one_begins_a_text(lm):
    async def main():
        async with open_room(lm) as room:
            behind = replace(job("").request, state=lm.prefill("before"))
            with pytest.raises(RequestError, match="`prompt` must hold at least one token"):
                await room.submit(Job(request=behind, owner="someone"))
            (text,) = await (await room.submit(job(""))).finished()
            assert text.generation.prompt_tokens == 0

    asyncio.run(main())


def test_a_long_prompt_is_tokenized_beside_the_event_loop(lm, monkeypatch):
    threads = []
    encode = type(lm.tokenizer).encode

    def watched(self, text):
        threads.append(threading.current_thread().name)
        return encode(self, text)

    monkeypatch.setattr(type(lm.tokenizer), "encode", watched)

    async def main():
        async with open_room(lm, chunk_tokens=512) as room:
            tickets = [await room.submit(job("short")), await room.submit(job("long " * 1000))]
            tickets += await room.submit_all([job("many " * 300)] * 3)
            assert [(await each.prompt()).n_tokens for each in tickets] == [5, 5000, *[1500] * 3]

    asyncio.run(main())
    assert threads[0] == threading.main_thread().name
    assert len(threads) == 5
    assert threading.main_thread().name not in threads[1:]


def test_a_function_is_called_between_steps_on_the_engines_thread(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job(n_tokens=LONG))
            await ticket.prompt()
            assert await room.run(lambda: threading.current_thread().name) == "engine"
            with pytest.raises(ZeroDivisionError):
                await room.run(lambda: 1 // 0)
            assert not ticket.is_over

    asyncio.run(main())


def test_too_many_functions_are_not_taken(lm):
    async def main():
        async with open_room(lm, max_connections=2) as room:
            async with held(room):
                tasks = [asyncio.ensure_future(room.run(lambda: 5)) for _ in range(2)]
                await asyncio.sleep(0)
                with pytest.raises(RequestError, match="all 2 places"):
                    await room.run(lambda: 6)
            assert await asyncio.gather(*tasks) == [5, 5]

    asyncio.run(main())


def test_a_room_that_drains_finishes_what_it_has_and_takes_no_more(lm):
    async def main():
        async with open_room(lm) as room:
            assert room.is_ready
            tickets = [await room.submit(job(n_tokens=50)) for _ in range(5)]
            draining = asyncio.ensure_future(room.drain(60.0))
            await asyncio.sleep(0)
            with pytest.raises(RequestError, match="the server is ending") as refused:
                await room.submit(job())
            assert (refused.value.status, refused.value.code) == (503, "draining")
            assert refused.value.retry_after
            assert (room.is_draining, room.is_ready, room.is_alive) == (True, False, True)
            await draining
            assert all(each.is_over for each in tickets)
            assert len(await tickets[-1].finished()) == 1

    asyncio.run(main())


def test_what_is_not_finished_when_the_time_to_drain_is_over_fails(lm):
    async def main():
        async with open_room(lm) as room:
            ticket = await room.submit(job(n_tokens=LONG))
            await ticket.prompt()
            await room.drain(0.01)
            with pytest.raises(RequestError, match="the server is ending") as failed:
                await ticket.finished()
            assert (failed.value.status, failed.value.code) == (503, "shutting_down")
            await until(lambda: room.n_running == 0)

    asyncio.run(main())


def test_a_room_that_is_retired_is_unready_and_still_takes_jobs(lm):
    async def main():
        async with open_room(lm) as room:
            room.retire()
            assert not room.is_ready
            await (await room.submit(job())).finished()

    asyncio.run(main())


def test_a_room_that_closes_fails_what_it_has(lm):
    async def main():
        async with open_room(lm) as room:
            tickets = [await room.submit(job(n_tokens=LONG)) for _ in range(5)]
            await tickets[0].prompt()
            await room.close()
            for ask in (*(each.finished() for each in tickets), room.run(lambda: 5)):
                with pytest.raises(RequestError, match="the server is ending"):
                    await ask
            assert not room.is_alive
            assert room._thread.join(0.0)

    asyncio.run(main())


def test_a_room_that_was_never_started_can_be_closed(lm):
    asyncio.run(EngineRoom(lm, Settings(), Metrics()).close())


def test_what_is_done_is_counted(lm):
    async def main():
        async with open_room(lm) as room:
            await (await room.submit(job("four", n_tokens=7, n=2))).finished()
            value = room._metrics.value
            assert value("prompt_tokens_total") == 4
            assert value("generation_tokens_total") == 14
            assert value("request_success_total", finished_reason="length") == 2
            assert value("time_to_first_token_seconds_count") == 1
            assert value("inter_token_latency_seconds_count") == 12
            assert value("e2e_request_latency_seconds_count") == 2
            assert value("request_queue_time_seconds_count") == 1
            assert value("batch_size_sum") == 14
            assert value("num_requests_running") == 0
            assert value("num_requests_waiting") == 0

    asyncio.run(main())


def scoped(scope: str, prompt: str, n_tokens: int = 6) -> Job:
    asked = job(prompt, n_tokens)
    return replace(asked, request=replace(asked.request, cache_scope=scope))


def test_the_next_turn_reads_only_what_is_new_and_only_for_its_own_key(lm):
    async def main():
        async with open_room(lm) as room:
            first = await room.submit(scoped("a", "a first turn"))
            await first.finished()
            assert room._metrics.value("state_cache_bytes") > 0
            turns = [scoped("a", "a first turn, a second"), scoped("b", "a first turn, a second")]
            tickets = [await room.submit(each) for each in turns]
            texts = [(await each.finished())[0].generation.text for each in tickets]
            assert [(await each.prompt()).cached_tokens for each in tickets] == [12, 0]
            assert room._metrics.value("state_cache_hits_total") == 1
            assert room._metrics.value("state_cache_misses_total") == 2
            return texts

    texts = asyncio.run(main())
    expected = lm.generate("a first turn, a second", scoped("a", "").request.params).text
    assert texts == [expected, expected]


def test_an_engine_that_is_made_anew_remembers_nothing_of_the_one_that_broke(lm, monkeypatch):
    async def main():
        async with open_room(lm) as room:
            await (await room.submit(scoped("a", "a first turn"))).finished()
            with monkeypatch.context() as broken:
                broken.setattr(Engine, "step", lambda *_: 1 / 0)
                with pytest.raises(RequestError, match="the engine broke"):
                    await (await room.submit(job())).finished()
            assert room._metrics.value("state_cache_bytes") == 0

    asyncio.run(main())


def test_a_room_may_remember_nothing(lm):
    async def main():
        async with open_room(lm, state_cache_bytes=0) as room:
            for prompt in ("a first turn", "a first turn, a second"):
                ticket = await room.submit(scoped("a", prompt))
                assert (await ticket.prompt()).cached_tokens == 0

    asyncio.run(main())
