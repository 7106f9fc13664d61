"""The first job of the key that has the fewest texts running is next, and nobody passes it."""

import asyncio

import pytest

from receptance.inference import Request
from receptance.serving import Settings
from receptance.serving.engine_room import Ticket
from receptance.serving.engine_room.line import Family, Line


def family(owner: str, n: int = 1) -> Family:
    async def ticket() -> Ticket:
        return Ticket(n, Settings(), forget=lambda *_: None)

    return Family(asyncio.run(ticket()), Request("a"), n, owner, 0.0)


@pytest.fixture
def line() -> Line:
    return Line(4)


def lined_up(line: Line, *families: Family) -> list[Family]:
    for each in families:
        line.add(each)
    return list(families)


def test_jobs_of_one_key_begin_in_their_order_while_there_is_room(line):
    jobs = lined_up(line, *(family("a", n) for n in (2, 1, 2)))
    assert [line.next(), line.next(), line.next()] == [jobs[0], jobs[1], None]
    line.leave("a", 1)
    assert line.next() is jobs[2]
    assert len(line) == 0


def test_keys_take_turns(line):
    a1, a2, a3, b1, b2 = lined_up(line, *map(family, "aaabb"))
    assert [line.next() for _ in range(5)] == [a1, b1, a2, b2, None]
    line.leave("a", 1)
    assert line.next() is a3


def test_a_job_of_many_texts_is_not_passed_by(line):
    one, many, few = lined_up(line, family("a"), family("b", 4), family("a"))
    assert line.next() is one
    assert line.next() is None  # the room that is there is kept for it
    line.leave("a", 1)
    assert [line.next(), line.next()] == [many, None]
    line.leave("b", 4)
    assert line.next() is few


def test_a_job_that_is_not_wanted_any_more_holds_up_nobody(line):
    lined_up(line, family("a"))
    line.next()
    many, few = lined_up(line, family("b", 4), family("c"))
    assert line.next() is None
    line.remove(many)
    line.remove(many)
    assert line.next() is few


def test_when_all_is_forgotten_all_places_are_free(line):
    lined_up(line, family("a", 4), family("a"))
    line.next()
    line.clear()
    assert len(line) == 0
    (job,) = lined_up(line, family("b", 4))
    assert line.next() is job
