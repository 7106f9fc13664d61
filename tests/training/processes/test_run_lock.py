"""One process at a time is in the folder of a run."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receptance.errors import ConfigError
from receptance.training import run_lock

HOLD = """
import sys, time
from pathlib import Path
from receptance.training.processes.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_told_which_one_is_there(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError) as caught, run_lock(folder):
            pass
        process.send_signal(signal.SIGKILL)

    message = str(caught.value)
    assert f"{str(folder)!r} must be used by one process at a time" in message
    assert re.search(rf"process {process.pid} on \S+ is training in it", message)
    assert f"end it with `kill {process.pid}`, or choose another `name`" in message
    with run_lock(folder):  # the system gave it back
        assert (folder / ".lock").exists()


def test_what_was_made_for_the_lock_is_removed_if_nothing_else_came(tmp_path):
    with run_lock(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a" / ".lock").read_text().split()[0] == str(os.getpid())

    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_something_is_stays(tmp_path):
    with run_lock(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "x").touch()

    assert [each.name for each in (tmp_path / "runs" / "a").iterdir()] == ["x"]


def test_a_folder_that_was_there_stays_even_if_it_is_empty(tmp_path):
    with run_lock(tmp_path):
        pass

    assert tmp_path.exists()


def test_an_error_inside_gives_the_lock_back(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), run_lock(tmp_path / "run"):
            raise KeyError

    assert not (tmp_path / "run").exists()


def test_a_lock_whose_file_was_removed_is_not_taken_for_one(tmp_path, monkeypatch):
    """A process opens the file, the owner ends and removes it, and only then the lock is taken."""
    path = tmp_path / ".lock"
    taken = fcntl.flock
    removed: list[Path] = []

    def remove_first(descriptor: int, how: int) -> None:
        taken(descriptor, how)
        if not removed:
            path.unlink()
            removed.append(path)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with run_lock(tmp_path):
        assert removed == [path]
        assert path.exists()
        with pytest.raises(ConfigError, match="by one process at a time"), run_lock(tmp_path):
            pass


def test_an_owner_who_has_not_told_its_number_yet_is_another_process(tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(ConfigError, match=r"but another process is training in it; wait for"),
            run_lock(tmp_path),
        ):
            pass
