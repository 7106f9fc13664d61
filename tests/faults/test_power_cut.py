"""A power cut costs at most the steps since the last checkpoint that was completed."""

import random
import re
import shutil

import pytest

from receptance.training.checkpoints import newest_good
from receptance.training.checkpoints.manifest import verify
from tests.faults.power_cut import Call, Disk, read_journal
from tests.faults.tiny_runs import Runner, fault

N_CUTS = 2000


@pytest.fixture(scope="module", params=["", "every.save_asynchronously=true"])
def journal(runner: Runner, request: pytest.FixtureRequest) -> list[Call]:
    """All that a run of five checkpoints did in their folder."""
    place = runner.place()
    settings = ["training.steps=15", *filter(None, [request.param])]
    assert runner.train(place, *settings, fault=fault(0, journal=True)).code == 0
    return read_journal(place / "journal")


def completed(calls: list[Call]) -> int:
    """Return the step of the newest checkpoint whose name was flushed; 0 for none."""
    renamed = step = 0
    for call in calls:
        name = re.fullmatch(r"/step-(\d{8})", call.argument)
        if call.name == "rename" and name:
            renamed = int(name[1])
        elif call == Call("fsync", "", ""):
            step = renamed
    return step


def test_the_model_of_a_disk_without_a_cut_is_what_is_there(runner, tmp_path):
    place = runner.place()
    assert runner.train(place, fault=fault(0, journal=True)).code == 0
    disk = Disk()
    for call in read_journal(place / "journal"):
        disk.do(call)

    for cut in range(20):  # all that matters was flushed, so every cut is the same
        disk.cut(random.Random(cut), tmp_path / str(cut))
        for step in (6, 9):
            verify(tmp_path / str(cut) / f"step-{step:08d}")
    assert completed(read_journal(place / "journal")) == 9


def test_after_a_cut_at_any_time_the_newest_completed_checkpoint_is_whole(journal, tmp_path, say):
    generator = random.Random(20261122)
    times = sorted(generator.randrange(1, len(journal) + 1) for _ in range(N_CUTS // 2))

    disk, done, n_lost = Disk(), 0, 0
    for number, time in enumerate(times):
        for call in journal[done:time]:
            disk.do(call)
        done = time
        place = tmp_path / str(number)
        disk.cut(generator, place)
        expected = completed(journal[:done])
        found = newest_good(place)
        n_lost += expected > (int(found.name[-8:]) if found else 0)
        shutil.rmtree(place)

    say(f"{len(times)} power cuts over {len(journal)} calls: {n_lost} lost a completed checkpoint")
    assert n_lost == 0


def test_a_protocol_that_does_not_flush_is_found_out(journal, tmp_path):
    """The model is worth something: without its flushes, the same run loses checkpoints."""
    generator = random.Random(1)
    disk, n_lost = Disk(), 0
    for call in journal:
        if call.name != "fsync" or not call.path:
            disk.do(call)
    for number in range(50):
        disk.cut(generator, tmp_path / str(number))
        try:
            verify(tmp_path / str(number) / "step-00000015")
        except Exception:  # noqa: BLE001 (whatever is wrong with it, it is not whole)
            n_lost += 1

    assert n_lost > 25
