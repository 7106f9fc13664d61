"""A server that does not fit says so before it starts, and what to change."""

from pathlib import Path

import pytest

from receptance.errors import ConfigError
from receptance.inference import Engine
from receptance.ops import memory as ops_memory
from receptance.serving import Settings
from receptance.serving.engine_room import EngineRoom, memory
from receptance.serving.metrics import Metrics


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """A machine with 8 MB to take, and a control group that leaves 2 MB."""
    group = tmp_path / "cgroup" / "one" / "two"
    group.mkdir(parents=True)
    (group.parent / "memory.max").write_text(f"{4 * 2**20}\n")
    (group.parent / "memory.current").write_text(f"{3 * 2**20}\n")
    (group.parent / "memory.stat").write_text(f"anon 5\ninactive_file {2**20}\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("0\n")
    (group / "memory.stat").write_text("inactive_file 0\n")
    (tmp_path / "own").write_text("0::/one/two\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8192 kB\n")
    monkeypatch.setattr(ops_memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(ops_memory, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(ops_memory, "_MEMINFO", tmp_path / "meminfo")
    return tmp_path


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
    wanted = r"with these settings must have .* MB .* but 2.0 MB are available; lower `max_seq"
    with pytest.raises(ConfigError, match=wanted):
        EngineRoom(lm, settings, Metrics())


@pytest.mark.usefixtures("machine")
def test_a_room_that_fits_is_not(lm):
    memory.require_memory(lm, Settings(max_sequences=2, state_cache_bytes=2**20, states_bytes=0))
