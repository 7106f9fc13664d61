"""A run of some seconds under `torchrun`, as it is started from the command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from receptance.data import prepare

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


def make_place(folder: Path) -> Path:
    """Put a token store and the run into a folder."""
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

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the finished model."""
        return load_file(self.folder / "model" / "model.safetensors")
