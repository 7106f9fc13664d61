"""A broken engine is made again, in time given up, and never quietly."""

import logging

import pytest

from receptance.inference import Engine
from receptance.serving.engine_room import engine_maker
from receptance.serving.engine_room.engine_maker import EngineMaker


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(engine_maker, "time", clock)
    return clock


def test_an_engine_is_made_anew_as_often_in_an_hour_as_is_allowed(lm, clock, caplog):
    maker = EngineMaker(lambda: Engine(lm, max_sequences=1), 2)
    for hour in range(3):
        clock.now = 3601.0 * hour
        for _ in range(2):
            before = maker.engine
            maker.discard()
            maker.remake()
            assert maker.engine is not None
            assert maker.engine is not before
            assert not maker.is_given_up
    maker.discard()
    maker.remake()
    assert maker.engine is None
    assert maker.is_given_up
    assert maker.seconds_to_remake() is None
    assert [each.levelno for each in caplog.records] == [logging.ERROR]


def test_one_that_can_not_be_made_is_tried_again_a_while_later(lm, clock, caplog):
    fails = False

    def make() -> Engine:
        if fails:
            raise MemoryError
        return Engine(lm, max_sequences=1)

    maker = EngineMaker(make, 2)
    assert maker.seconds_to_remake() is None
    maker.discard()
    fails = True
    maker.remake()
    assert maker.engine is None
    assert maker.seconds_to_remake() == 5.0
    clock.now = 7.0
    assert maker.seconds_to_remake() == 0.0
    fails = False
    maker.remake()
    assert maker.engine is not None
    assert maker.seconds_to_remake() is None
    assert "can not be made again: the engine must have more memory" in caplog.text
