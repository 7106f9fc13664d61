"""Two ranks under `torchrun`: one of them dies or hangs, and nothing is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from receptance.data import prepare
from tests.tolerances import FLOAT32_LOSS

pytestmark = pytest.mark.slow

N_KILLS = 10
N_STEPS = 400

RUN = f"""
name = "run"
model = {{ n_layer = 2, n_embd = 32 }}
data = {{ store = "store", ctx_len = 32, batch_size = 12 }}
training = {{ steps = {N_STEPS}, precision = "float32", parallel = "ddp" }}

[every]
checkpoint_steps = 10
validation_steps = 0
sample_steps = 0
save_asynchronously = true
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a token store and a run of some seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "texts").mkdir()
    for index in range(20):
        (folder / "texts" / f"{index}.txt").write_text(f"the cat of house {index} sat.\n" * 20)
    prepare([folder / "texts"], "bytes", folder / "store")
    (folder / "run.toml").write_text(RUN)
    return folder


class Job:
    """A run under `torchrun`, or alone."""

    def __init__(self, place: Path, name: str, *settings: str, n_ranks: int = 2, restarts: int = 0):
        """Start it, or go on with it."""
        self.folder = place / "runs" / name
        command = [sys.executable, "-m"]
        if n_ranks > 1:
            many = f"--nproc-per-node={n_ranks}"
            command += ["torch.distributed.run", "--standalone", many, f"--max-restarts={restarts}"]
            command += ["-m"]
        command += ["receptance", "train", "run.toml", f"name={name}", *settings]
        self.log = place / f"{name}.log"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=place, env=environment, stderr=log)

    def steps(self) -> dict[int, dict[str, Any]]:
        """Return the lines of the steps so far; each step has one."""
        with (self.folder / "metrics.jsonl").open() as file:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
        steps = {line["step"]: line for line in lines}
        assert len(steps) == len(lines)
        return steps

    def wait_for(self, step: int) -> None:
        """Wait until a step is done."""
        until = time.monotonic() + 300
        while not (self.folder / "metrics.jsonl").exists() or step not in self.steps():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)

    def wait_for_another(self, rank: int, process: int) -> None:
        """Wait until a rank is another process."""
        until = time.monotonic() + 300
        while self.said_by(rank)["process"] == process:
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)

    def hit(self, rank: int, number: int) -> int:
        """Send a signal to a rank, and return its process."""
        process = self.said_by(rank)["process"]
        os.kill(process, number)
        return process

    def said_by(self, rank: int) -> dict[str, Any]:
        """Return what a rank said last that it does."""
        return json.loads((self.folder / "ranks" / f"rank-{rank:05d}.json").read_text())

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout=600)

    def said(self) -> str:
        """Return what it wrote to stderr."""
        return self.log.read_text()

    def numbers(self) -> list[tuple[float, float]]:
        """Return the loss and the norm of the gradient of each step."""
        steps = self.steps()
        assert sorted(steps) == list(range(1, N_STEPS + 1))
        return [(steps[step]["loss"], steps[step]["grad_norm"]) for step in sorted(steps)]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights of the finished model."""
        return load_file(self.folder / "model" / "model.safetensors")


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
    job = Job(place, "hung")
    job.wait_for(20)
    started = time.monotonic()
    process = job.hit(1, signal.SIGSTOP)
    assert job.end() == 1
    seconds = time.monotonic() - started
    say(f"a stopped rank ended the job after {seconds:.0f} s")
    assert f"without the others: rank 1 (process {process} on " in job.said()
    assert "which is stopped) said last that it was training after step " in job.said()
    assert 100 < seconds < 200
