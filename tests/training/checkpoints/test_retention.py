"""What stays of a run's checkpoints."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.training.checkpoints.retention import Candidate, Retention, to_remove


def candidates(*steps: int, bits: dict[int, float] | None = None) -> list[Candidate]:
    return [Candidate(Path(str(step)), step, (bits or {}).get(step)) for step in steps]


def stays(found: list[Candidate], retention: Retention, newest: int, whole=lambda _: True) -> str:
    gone = to_remove(found, retention, newest, whole)
    return " ".join(str(each.path) for each in found if each.path not in gone)


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(), "5 6"),
        (Retention(last=3), "4 5 6"),
        (Retention(last=9), "1 2 3 4 5 6"),
        (Retention(last=1), "5 6"),  # at least two
        (Retention(last=0), "5 6"),
        (Retention(last=2, every=3), "3 5 6"),
        (Retention(last=2, best=1), "2 5 6"),
        (Retention(last=2, best=2), "2 4 5 6"),
        (Retention(last=0, best=2), "2 4"),
        (Retention(last=0, every=3), "3 6"),
        (Retention(last=1, every=2, best=3), "1 2 4 6"),
    ],
)
def test_one_stays_if_any_rule_says_so(retention, expected):
    found = candidates(1, 2, 3, 4, 5, 6, bits={1: 3.0, 2: 1.0, 4: 2.0})

    assert stays(found, retention, 6) == expected


def test_of_equally_good_ones_the_earlier_stays():
    found = candidates(1, 2, 3, 4, bits={1: 2.0, 2: 1.0, 3: 1.0})

    assert stays(found, Retention(last=1, best=1), 4) == "2 4"


def test_those_of_later_steps_go():
    assert stays(candidates(5, 10, 15, 20), Retention(last=9), 10) == "5 10"
    assert stays(candidates(10, 15, 20), Retention(last=9), 10) == "10"


def test_two_that_are_whole_stay_though_they_need_not():
    found = candidates(1, 2, 3, 4, 5)
    damaged = {Path("4"), Path("3")}

    assert stays(found, Retention(last=2), 5, lambda path: path not in damaged) == "2 4 5"


def test_only_as_many_are_read_as_it_takes():
    read: list[str] = []

    def whole(path: Path) -> bool:
        read.append(path.name)
        return True

    stays(candidates(1, 2, 3, 4, 5), Retention(last=4), 5, whole)

    assert read == ["5", "4"]


@given(
    steps=st.sets(st.integers(1, 50), min_size=1),
    last=st.integers(0, 5),
    every=st.integers(0, 5),
    best=st.integers(0, 5),
    damaged=st.sets(st.integers(1, 50)),
)
def test_the_newest_two_whole_ones_or_two_older_ones_always_stay(steps, last, every, best, damaged):
    found = candidates(*sorted(steps), bits={step: float(step % 7) for step in steps})
    damaged -= {max(steps)}  # that one was just written and verified

    def is_whole(path: Path) -> bool:
        return int(path.name) not in damaged

    retention = Retention(last=last, every=every, best=best)
    kept = {Path(name) for name in stays(found, retention, max(steps), is_whole).split()}

    n_whole = sum(is_whole(each.path) for each in found)
    assert sum(is_whole(path) for path in kept) >= min(2, n_whole)
    assert {each.path for each in found[-last:] if last} <= kept


@pytest.mark.parametrize("name", ["last", "every", "best"])
def test_a_negative_number_is_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}` must not be negative, got -1"):
        Retention(**{name: -1})


def test_the_one_to_go_back_to_stays_too():
    found = [Candidate(Path(f"step-{step}"), step, None) for step in (2, 4, 6, 8, 10)]

    going = to_remove(found, Retention(last=2), 10, lambda _: True, needed_before=6)

    assert [path.name for path in going] == ["step-2", "step-6"]
