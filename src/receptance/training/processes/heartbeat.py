"""What each rank is doing, in files that the others read when one of them falls silent.

runs/NAME/ranks/
    rank-00001.json     where the rank was when it last said so
    rank-00001.stacks   where each of its threads was when a step had taken too long
"""

import faulthandler
import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import distributed as dist

from receptance.training.processes.ranks import STEP_TIMEOUT_S, Ranks

TRAINING = "training"
DEAD = "which has died"

# Stacks are written a little before the others give up, so that they can name the file.
_STACKS_AFTER = 0.8
# How long a rank that gives up waits for the others to say that they do too.
_GRACE_S = 5.0

# What gloo says of a rank that is gone or late; its errors have no class of their own.
_LOST = ("gloo", "Connection closed", "Connection reset", "Timed out waiting", "NCCL")


class Heartbeat:
    """Tells the other ranks where this one is, and why the job ends when one of them is lost.

    A rank that dies closes its connections, and one that hangs lets the others wait until
    `STEP_TIMEOUT_S` is over: in both cases an exchange fails on all the others. Each of them says
    so, and who does not is the lost one. It is named, with its last step and the place of its
    stack, in a `ConnectionError` that takes the place of PyTorch's. The process then ends, and with
    it `torchrun` ends the job, or begins it again.

    Use it as a context around training, and call it at the beginning of each step. A process that
    is alone tells nobody.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, timeout_s: float = STEP_TIMEOUT_S) -> None:
        """Take the settings.

        Args:
            folder: The run's; all ranks must see the same.
            ranks: Who takes part.
            timeout_s: How long a step waits for another rank, as `connected` was told.
        """
        self._folder = folder / "ranks"
        self._ranks = ranks
        self._timeout_s = timeout_s
        self._own: dict[str, Any] = {"host": socket.gethostname(), "process": os.getpid()}

    def __call__(self, step: int, doing: str = TRAINING) -> None:
        """Say what this rank does now; if a step takes too long, its stacks are written.

        Args:
            step: Steps done.
            doing: In a word; anything but `TRAINING` may take its time.
        """
        if self._ranks.is_alone:
            return
        self._say(step=step, doing=doing, since=time.time())
        faulthandler.cancel_dump_traceback_later()
        if doing == TRAINING:
            after = _STACKS_AFTER * self._timeout_s
            faulthandler.dump_traceback_later(after, file=self._stacks)

    def __enter__(self) -> "Heartbeat":
        if not self._ranks.is_alone:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._stacks = self._path(self._ranks.rank, ".stacks").open("w", encoding="utf-8")
            # `kill -USR2` writes the stacks of a rank at any time.
            faulthandler.register(signal.SIGUSR2, file=self._stacks)
            self(0, "starting")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ranks.is_alone:
            return
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGUSR2)
        self._stacks.close()
        if error is None:
            self._say(doing="done", since=time.time())
        elif _is_lost(error):
            self._say(lost=str(error))
            raise ConnectionError(self._report()) from error
        else:
            self._say(failed=f"{type(error).__name__}: {error}")

    def _say(self, **entries: Any) -> None:
        """Write the file of this rank, whole. A full disk must not end a run."""
        self._own |= entries
        path = self._path(self._ranks.rank, ".json")
        with suppress(OSError):
            staged = path.with_suffix(".tmp")
            staged.write_text(json.dumps(self._own), encoding="utf-8")
            staged.replace(path)

    def _report(self) -> str:
        """Return which ranks are lost, as far as the files tell."""
        others = [rank for rank in range(self._ranks.world_size) if rank != self._ranks.rank]
        until = time.monotonic() + _GRACE_S
        while True:
            said = {rank: self._said(rank) for rank in others}
            lost = {rank: each for rank, each in said.items() if "lost" not in each}
            is_explained = any("failed" in each for each in lost.values())
            states = {self._process_state(each) for each in lost.values()}
            if is_explained or states == {DEAD} or time.monotonic() > until:
                break
            time.sleep(0.1)
        clauses = [self._clause(rank, each) for rank, each in lost.items()]
        found = "; ".join(clauses) or f"all say the same; the first cause: {self._own['lost']}"
        return (
            f"rank {self._ranks.rank} cannot go on after step {self._own.get('step', 0)} without "
            f"the others: {found}. The job ends here; started again, or by `torchrun "
            "--max-restarts`, it goes on from the newest checkpoint"
        )

    def _clause(self, rank: int, said: dict[str, Any]) -> str:
        if "failed" in said:
            return f"rank {rank} failed: {said['failed']}"
        if not said:
            return f"rank {rank} never said anything"
        age = time.time() - said["since"]
        clause = (
            f"rank {rank} (process {said['process']} on {said['host']}, "
            f"{self._process_state(said)}) said last that it was {said['doing']} after step "
            f"{said['step']}, {age:.0f} s ago"
        )
        stacks = self._path(rank, ".stacks")
        with suppress(OSError):
            if stacks.stat().st_size:
                clause += f"; where it was is in {str(stacks)!r}"
        return clause

    def _process_state(self, said: dict[str, Any]) -> str:
        """Return how the process of a rank is, as Linux tells on the same machine."""
        if said.get("host") != self._own["host"]:
            return "which is on another machine"
        try:
            status = Path(f"/proc/{said['process']}/stat").read_text(encoding="utf-8")
        except OSError:
            return DEAD
        state = status.rpartition(")")[2].split()[0]
        return {"T": "which is stopped", "Z": DEAD}.get(state, "which is there")

    def _said(self, rank: int) -> dict[str, Any]:
        try:
            return json.loads(self._path(rank, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _path(self, rank: int, suffix: str) -> Path:
        return self._folder / f"rank-{rank:05d}{suffix}"


def _is_lost(error: BaseException) -> bool:
    """Whether an error is that of an exchange with another rank."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _LOST)
