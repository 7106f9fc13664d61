"""A server that does not fit says so before it starts, and what to change."""

from pathlib import Path

import pytest

from receptance.errors import ConfigError
from receptance.inference import Engine
from receptance.serving import Settings
from receptance.serving.engine_room import EngineRoom, memory
from receptance.serving.metrics import Metrics
from tests import small_machine


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    return small_machine.pretend(tmp_path, monkeypatch)


def test_the_memory_of_the_states_is_what_the_engine_takes(lm):
    assert memory.state_bytes(lm) * 5 == Engine(lm, max_sequences=5).memory_bytes


def test_where_nobody_says_nothing_is_refused(lm, machine):
    (machine / "own").unlink()
    (machine / "meminfo").unlink()
    memory.require_memory(lm, Settings(state_cache_bytes=2**50))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "settings",
    [Settings(max_sequences=2000, state_cache_bytes=0), Settings(state_cache_bytes=2**22)],
)
def test_a_room_that_does_not_fit_is_refused_with_what_to_change(lm, settings):
    wanted = (
        r"with these settings must have .* MB .* but 2.0 MB are available; lower `max_seq.*"
        r" 2 states of 0.6 KB"
    )
    with pytest.raises(ConfigError, match=wanted):
        EngineRoom(lm, settings, Metrics())


@pytest.mark.usefixtures("machine")
def test_a_room_that_fits_is_not(lm):
    memory.require_memory(lm, Settings(max_sequences=2, state_cache_bytes=2**20, states_bytes=0))
