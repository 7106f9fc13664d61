import pytest

from receptance.serving.engine_room.pace import Pace


def test_before_any_text_ended_it_is_a_second():
    assert Pace().seconds_until_a_place(100, 1) == 1.0


def test_it_is_the_time_of_those_before_shared_by_the_places():
    pace = Pace()
    pace.note(8.0)
    assert pace.seconds_until_a_place(3, 4) == pytest.approx(8.0)
    assert pace.seconds_until_a_place(7, 4) == pytest.approx(16.0)


def test_it_follows_the_newest_texts():
    pace = Pace()
    for seconds in [2.0] + [10.0] * 100:
        pace.note(seconds)
    assert pace.seconds_until_a_place(0, 1) == pytest.approx(10.0, abs=0.01)


def test_nobody_is_sent_away_for_more_than_a_minute():
    pace = Pace()
    pace.note(600.0)
    assert pace.seconds_until_a_place(64, 1) == 60.0
