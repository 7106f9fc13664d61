"""The first job of the key that has the fewest texts running is next, if there is room for it."""

import asyncio

import pytest

from receptance.inference import Request
from receptance.serving import Settings
from receptance.serving.engine_room import Ticket
from receptance.serving.engine_room.line import Family, Line

PASSING = 10.0


def family(owner: str, n: int = 1) -> Family:
    async def ticket() -> Ticket:
        return Ticket(n, Settings(), forget=lambda *_: None)

    return Family(asyncio.run(ticket()), Request("a"), n, owner, 0.0)


@pytest.fixture
def line() -> Line:
    return Line(4, PASSING)


def lined_up(line: Line, *families: Family) -> list[Family]:
    for each in families:
        line.add(each)
    return list(families)


def test_jobs_of_one_key_begin_in_their_order_while_there_is_room(line):
    jobs = lined_up(line, *(family("a", n) for n in (2, 1, 2)))
    assert [line.next(0.0), line.next(0.0), line.next(0.0)] == [jobs[0], jobs[1], None]
    line.leave("a", 1)
    assert line.next(0.0) is jobs[2]
    assert len(line) == 0


def test_keys_take_turns(line):
    a1, a2, a3, b1, b2 = lined_up(line, *map(family, "aaabb"))
    assert [line.next(0.0) for _ in range(5)] == [a1, b1, a2, b2, None]
    line.leave("a", 1)
    assert line.next(0.0) is a3


def test_a_job_of_many_texts_is_passed_by_for_a_while_and_then_by_nobody(line):
    one, many, *few = lined_up(line, family("a"), family("b", 4), *map(family, "aaaaa"))
    assert line.next(0.0) is one
    for now in (1.0, 5.0, 10.9):  # the room that there is does not idle
        assert line.next(now) is few.pop(0)
        line.leave("a", 1)
    assert line.next(11.0) is None  # from now on it is kept
    line.leave("a", 1)
    assert [line.next(11.0), line.next(11.0)] == [many, None]
    line.leave("b", 4)
    assert line.next(12.0) is few[0]


def test_who_passes_has_room_and_is_of_the_key_with_the_fewest_texts(line):
    lined_up(line, family("a", 2))
    line.next(0.0)
    many, a, three, b, two = lined_up(line, *map(family, "bacbc", (3, 1, 3, 1, 2)))
    assert [line.next(0.0), line.next(0.0), line.next(0.0)] == [b, a, None]
    line.leave("a", 2)
    assert line.next(0.0) is two
    line.leave("c", 2)
    line.leave("a", 1)
    assert [line.next(0.0), line.next(0.0)] == [many, None]
    line.leave("b", 4)
    assert line.next(0.0) is three


def test_a_job_that_was_passed_by_is_first_when_there_is_room(line):
    lined_up(line, family("a"), family("b"))
    assert None not in (line.next(0.0), line.next(0.0))
    many, other = lined_up(line, family("c", 3), family("c"))
    assert line.next(0.0) is other
    line.leave("a", 1)
    line.leave("b", 1)
    (newer,) = lined_up(line, family("a"))  # its key has fewer texts now
    assert [line.next(0.0), line.next(0.0)] == [many, None]
    line.leave("c", 1)
    assert line.next(0.0) is newer


def test_between_two_jobs_that_wait_for_places_others_come_in(line):
    lined_up(line, family("a"))
    line.next(0.0)
    many, next_many, few = lined_up(line, family("b", 4), family("b", 4), family("a"))
    line.remove(few)
    assert [line.next(0.0), line.next(10.0)] == [None, None]
    line.add(few)
    assert line.next(99.0) is None
    line.remove(many)  # it waited for too long
    assert line.next(99.0) is few
    line.remove(next_many)


def test_a_job_that_is_not_wanted_any_more_holds_up_nobody(line):
    lined_up(line, family("a"))
    line.next(0.0)
    (many,) = lined_up(line, family("b", 4))
    assert line.next(0.0) is None
    (few,) = lined_up(line, family("c"))
    assert line.next(10.0) is None
    line.remove(many)
    line.remove(many)
    assert line.next(10.0) is few


def test_when_all_is_forgotten_all_places_are_free(line):
    lined_up(line, family("a", 4), family("a"))
    line.next(0.0)
    line.clear()
    assert len(line) == 0
    (job,) = lined_up(line, family("b", 4))
    assert line.next(0.0) is job
