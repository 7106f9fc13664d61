"""A key has a minute's tokens, and gets them back as time passes."""

import asyncio

import pytest

from receptance.errors import RequestError
from receptance.serving.engine_room.allowance import Allowance
from tests.serving.engine_room.rooms import LONG, job, open_room, until


def refusal(allowance: Allowance, now: float, owner: str = "anna") -> RequestError:
    with pytest.raises(RequestError, match="60 tokens a minute") as refused:
        allowance.require(owner, now)
    assert (refused.value.status, refused.value.code) == (429, "rate_limit")
    return refused.value


def test_who_took_all_waits_until_some_are_back():
    allowance = Allowance(60)
    allowance.take("anna", 59, 0.0)
    allowance.require("anna", 0.0)
    allowance.take("anna", 1, 0.0)
    seconds = refusal(allowance, 0.0).retry_after
    assert seconds == pytest.approx(1.0)
    allowance.require("anna", 1.01)


def test_who_owes_waits_until_that_is_paid():
    allowance = Allowance(60)
    allowance.take("anna", 120, 0.0)
    assert refusal(allowance, 0.0).retry_after == pytest.approx(61.0)
    refusal(allowance, 59.0)
    allowance.require("anna", 60.5)
    allowance.require("anna", 1e9)


def test_what_one_key_took_is_nothing_to_another():
    allowance = Allowance(60)
    allowance.take("anna", 100, 0.0)
    allowance.require("ben", 0.0)
    refusal(allowance, 0.0)


def test_without_a_number_everybody_takes_what_they_like():
    allowance = Allowance(0)
    allowance.take("anna", 10**9, 0.0)
    allowance.require("anna", 0.0)


def test_a_key_that_took_its_tokens_of_the_minute_is_told_when_there_are_more(lm):
    async def main():
        async with open_room(lm, tokens_per_minute_per_key=20) as room:
            await (await room.submit(job("a prompt", 5, n=2))).finished()
            await until(lambda: not room._places)
            await (await room.submit(job("another", 50, owner="ben"))).finished()
            left = await room.submit(job("a", LONG))
            await left.prompt()
            await until(lambda: room._metrics.value("generation_tokens_total") > 65)
            left.cancel("client")
            await until(lambda: not room._places)
            with pytest.raises(RequestError, match="20 tokens a minute") as refused:
                await room.submit(job())
            assert room._metrics.value("rejected_total", reason="rate_limit") == 1
            return refused.value

    error = asyncio.run(main())
    assert (error.status, error.code) == (429, "rate_limit")
    # Of 8 + 2 x 5 tokens, and then more than six of who left: nothing of them was for nothing.
    assert error.retry_after is not None
    assert error.retry_after > 3
