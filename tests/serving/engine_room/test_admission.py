"""Places are counted from the promise to the end, all of them and those of a key."""

import pytest

from receptance.errors import RequestError
from receptance.serving import Settings
from receptance.serving.engine_room.admission import Admission


@pytest.fixture
def admission() -> Admission:
    return Admission(Settings(max_sequences=2, max_waiting=4, max_waiting_per_key=3))


def test_the_last_place_is_given_and_none_behind_it(admission):
    admission.promise("a", 3)
    admission.begin("a", 2)
    admission.require_place("b", 3)
    assert not admission.is_full
    admission.promise("b", 3)
    assert admission.is_full
    with pytest.raises(RequestError, match="all 4 places"):
        admission.require_place("c", 1)


def test_what_waits_is_counted_for_its_key(admission):
    admission.promise("a", 2)
    admission.promise("a", 3)
    assert admission.n_waiting_of("a") == 5
    with pytest.raises(RequestError, match="all 3 places of this key"):
        admission.require_place("a", 1)
    admission.require_place("b", 1)
    admission.begin("a", 3)
    admission.require_place("a", 1)


def test_a_place_that_is_free_is_nobodys_queue(admission):
    admission.promise("a", 1)
    admission.begin("a", 1)
    Admission(Settings(max_sequences=2, max_waiting_per_key=0)).require_place("a", 2)
    admission.require_place("a", 1)


def test_places_come_back(admission):
    admission.promise("a", 3)
    admission.begin("a", 3)
    admission.finish(1.0)
    admission.leave(2)
    assert admission.n_open == 0
    assert admission._waiting_of == {}


def test_a_refusal_says_when_to_come_again(admission):
    admission.promise("a", 6)
    admission.begin("a", 2)
    for _ in range(2):
        admission.finish(10.0)
    admission.promise("b", 2)
    assert admission.full("full").retry_after == pytest.approx(10.0 * 5 / 2)


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_waiting": 4, "max_waiting_per_key": 3}, 3),
        ({"max_waiting": 4, "max_waiting_per_key": 9}, 6),
        ({"max_waiting": 0, "max_waiting_per_key": 9}, 2),
        ({"max_waiting": 4, "max_waiting_per_key": 0}, 2),
    ],
)
def test_what_never_has_places_is_not_told_to_come_again(limits, most):
    empty = Admission(Settings(max_sequences=2, **limits))
    empty.require_place("a", most)
    with pytest.raises(RequestError, match=f"must be at most {most} texts") as refused:
        empty.require_place("a", most + 1)
    assert (refused.value.status, refused.value.retry_after) == (400, None)
