"""A child that may die of what it is asked, and its owner, who may not."""

import gc
import os

import pytest

from receptance.serving.confinement.process import Confined, ConfinedError

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def written(confined: Confined, source: str) -> str:
    return confined.ask(source=source, variables={}, max_characters=1000)


@pytest.fixture
def confined() -> Confined:
    return Confined("template", seconds=0.05, megabytes=32)


def test_one_child_answers_many_times(confined: Confined):
    assert written(confined, "{{ 1 + 1 }}") == "2"
    pid = confined._process and confined._process.pid
    assert written(confined, "é\n\u2028漢") == "é\n\u2028漢"
    assert confined._process is not None
    assert confined._process.pid == pid


def test_what_fails_is_told_in_its_own_words(confined: Confined):
    with pytest.raises(ConfinedError, match="'nothing' is undefined"):
        written(confined, "{{ nothing.at_all }}")


@pytest.mark.parametrize("bomb", [ENDLESS, "{{ 'a' * 10**9 }}"])
def test_what_takes_too_much_fails_alone(confined: Confined, bomb: str):
    with pytest.raises(ConfinedError, match="too much"):
        written(confined, bomb)
    assert written(confined, "again") == "again"


def test_a_child_that_was_killed_is_replaced(confined: Confined):
    written(confined, "a")
    assert confined._process is not None
    confined._process.kill()
    confined._process.wait()
    with pytest.raises(ConfinedError):
        written(confined, "b")
    assert written(confined, "c") == "c"


def test_no_child_outlives_its_owner(confined: Confined):
    written(confined, "a")
    assert confined._process is not None
    pid = confined._process.pid
    confined.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    other = Confined("template", seconds=1.0, megabytes=32)
    written(other, "a")
    assert other._process is not None
    pid = other._process.pid
    del other
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
