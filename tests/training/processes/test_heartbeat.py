"""A rank that is lost is named, and so is the place where it was."""

import json
import os
import time
from pathlib import Path
from typing import NoReturn

import pytest

from receptance.errors import DataError
from receptance.training.processes.heartbeat import Heartbeat
from receptance.training.processes.ranks import ALONE, Ranks
from tests.training.on_ranks import RankProcesses

LATE = RuntimeError("gloo: Timed out waiting 120000ms for recv operation to complete")


def raise_in_step(error: Exception, folder: Path, ranks: Ranks) -> NoReturn:
    """Raise an error in the seventh step of a run."""
    with Heartbeat(folder, ranks) as beat:
        beat(6)
        raise error


def test_the_ranks_that_wait_name_the_one_that_hangs_and_where(nursery, tmp_path):
    processes = RankProcesses(nursery, 3, step_timeout_s=2.5)
    for rank in range(3):
        processes.tell(rank, "lost", folder=str(tmp_path), timeout_s=2.5, how="hangs")
    reports = [processes.answer(rank) for rank in (0, 2)]
    processes.kill()

    hanging = processes.processes[1].pid
    for rank, report in zip((0, 2), reports, strict=True):
        assert (
            f"rank {rank} cannot go on after step 2 without the others: rank 1 (process" in report
        )
        assert f"(process {hanging} on " in report
        assert "which is there) said last that it was training after step 2, " in report
        assert report.endswith("it goes on from the newest checkpoint")
    stacks = tmp_path / "ranks" / "rank-00001.stacks"
    assert f"where it was is in {str(stacks)!r}" in reports[0]
    assert "in lose" in stacks.read_text()


def test_the_error_of_a_rank_is_what_the_others_end_with(tmp_path):
    (tmp_path / "ranks").mkdir()
    failed = {"host": "a", "process": 1, "failed": "DataError: the text is gone"}
    (tmp_path / "ranks" / "rank-00000.json").write_text(json.dumps(failed))
    with pytest.raises(ConnectionError) as caught:
        raise_in_step(LATE, tmp_path, Ranks(rank=1, world_size=2))
    assert "others: rank 0 failed: DataError: the text is gone. The job" in str(caught.value)


def test_a_rank_that_says_nothing_and_one_that_is_no_more_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("receptance.training.processes.heartbeat._GRACE_S", 0.2)
    host = os.uname().nodename
    said = {"host": host, "process": 2**22 + 1, "step": 5, "doing": "saving"}
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks" / "rank-00000.json").write_text('{"lost": "late"}')
    (tmp_path / "ranks" / "rank-00002.json").write_text(
        json.dumps({**said, "since": time.time() - 9})
    )
    with pytest.raises(ConnectionError) as caught:
        raise_in_step(LATE, tmp_path, Ranks(rank=1, world_size=4))
    assert str(caught.value).startswith(
        f"rank 1 cannot go on after step 6 without the others: rank 2 (process 4194305 on {host}, "
        "which has died) said last that it was saving after step 5, "
    )
    assert "s ago; rank 3 never said anything. The job ends here; started again" in str(
        caught.value
    )


def test_an_error_of_its_own_is_the_one_that_a_rank_ends_with(tmp_path):
    with pytest.raises(DataError):
        raise_in_step(DataError("the text is gone"), tmp_path, Ranks(rank=1, world_size=2))
    said = json.loads((tmp_path / "ranks" / "rank-00001.json").read_text())
    assert said["failed"] == "DataError: the text is gone"


def test_a_process_alone_writes_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="gloo"):
        raise_in_step(LATE, tmp_path, ALONE)
    assert list(tmp_path.iterdir()) == []
