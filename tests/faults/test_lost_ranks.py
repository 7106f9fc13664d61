"""Two ranks under `torchrun`: one of them dies or hangs, and nothing is lost."""

import random
import signal
import time

import pytest
import torch

from tests.tolerances import FLOAT32_LOSS
from tests.training.torchrun_job import N_STEPS, Job, make_place

pytestmark = pytest.mark.slow

N_KILLS = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a token store and a run."""
    return make_place(tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_run_whose_ranks_are_killed_goes_on_with_the_same_bits(place, say, parallel):
    settings = f"training.parallel={parallel}", "training.dropout=0.1"
    whole = Job(place, f"whole-{parallel}", *settings)
    assert whole.end() == 0, whole.said()
    generator = random.Random(parallel)
    job = Job(place, f"killed-{parallel}", *settings, restarts=N_KILLS)
    killed: list[tuple[int, int]] = []
    step = 0
    for _ in range(N_KILLS):
        job.wait_for(step := step + generator.randrange(5, 30))
        time.sleep(generator.random() / 10)
        rank = generator.randrange(2)
        process = job.hit(rank, signal.SIGKILL)
        step = max(job.steps())
        killed.append((step, rank))
        job.wait_for_another(rank, process)
    assert job.end() == 0, job.said()

    say(f"{parallel}: {len(killed)} ranks killed, (after step, rank) {killed}")
    assert job.said().count("going on after step") >= N_KILLS - 1
    assert job.numbers() == whole.numbers()
    for name, value in whole.weights().items():
        assert torch.equal(job.weights()[name], value), name


def test_other_numbers_of_ranks_go_on_with_the_same_samples(place, say):
    whole = Job(place, "alone", "training.parallel=none", n_ranks=1)
    assert whole.end() == 0, whole.said()
    parts = [(2, "fsdp2", 100), (3, "ddp", 200), (1, "none", 300), (3, "fsdp2", N_STEPS)]
    numbers = []
    for n_ranks, parallel, step in parts:
        moved = Job(place, "moved", f"training.parallel={parallel}", n_ranks=n_ranks)
        moved.wait_for(step)
        if step < N_STEPS:
            moved.process.send_signal(signal.SIGTERM)
        code = moved.end()
        assert code == (0 if step == N_STEPS else 75 if n_ranks == 1 else 1), moved.said()
        numbers = moved.numbers() if step == N_STEPS else []
    pairs = zip(numbers, whole.numbers(), strict=True)
    largest = max(abs(one - other) for (one, _), (other, _) in pairs)
    say(f"2, 3, 1 and 3 ranks: losses within {largest:.1e} of those of one")
    # Another sample would change a loss by tenths.
    assert largest < FLOAT32_LOSS


def test_a_rank_that_hangs_ends_the_job_with_its_name(place, say):
    job = Job(place, "hung", "every.checkpoint_steps=0")
    job.wait_for(20)
    started = time.monotonic()
    process = job.hit(1, signal.SIGSTOP)
    assert job.end() == 1
    seconds = time.monotonic() - started
    say(f"a stopped rank ended the job after {seconds:.0f} s")
    assert f"without the others: rank 1 (process {process} on " in job.said()
    assert "which is stopped) said last that it was training after step " in job.said()
    assert 100 < seconds < 200
