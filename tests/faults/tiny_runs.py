"""Runs of `receptance train` that can be killed, or meet a disk that fails."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from receptance.training import list_checkpoints
from receptance.training.checkpoints.manifest import verify

RECIPE = """
name = "tiny"

[model]
n_layer = 1
n_embd = 16

[data]
store = "store"
ctx_len = 16
batch_size = 4
segments = 2

[training]
steps = 9
precision = "float32"
dropout = 0.1

[optimizer]
lr = 1e-2

[every]
checkpoint_steps = 3
validation_steps = 4
validation_tokens = 100
sample_steps = 4
sample_prompt = "the "
sample_tokens = 3
"""
RUN = "runs/tiny"
CHECKPOINTS = f"{RUN}/checkpoints"

# What a line of `metrics.jsonl` says that does not depend on the clock.
TOLD = ("step", "tokens", "loss", "lr", "grad_norm", "valid_bits_per_byte")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code, or minus the signal that ended it."""
    seconds: float


class Runner:
    """Runs commands in folders that are all alike: a store, and a recipe to train on it."""

    def __init__(self, process: "subprocess.Popen[str]", root: Path, store: Path) -> None:
        self._process = process
        self._root = root
        self._store = store
        self._n_places = 0

    def place(self) -> Path:
        """Return a new folder to run in."""
        self._n_places += 1
        place = self._root / str(self._n_places)
        place.mkdir()
        (place / "store").symlink_to(self._store)
        (place / "run.toml").write_text(RECIPE)
        return place

    def train(
        self, place: Path, *settings: str, fault: dict | None = None, kill_after_s: float = 0.0
    ) -> Ended:
        """Run `receptance train` in a folder, to its end or that which is asked for.

        Args:
            place: The folder.
            settings: Further arguments.
            fault: What the library is told: `under`, `at`, `count`, `errno`.
            kill_after_s: After how many seconds it is killed; 0 for never.
        """
        request = {
            "place": str(place),
            "args": ["train", "run.toml", *settings],
            "fault": fault,
            "kill_after_s": kill_after_s,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def fault(
    at: int,
    error: int = 0,
    *,
    count: int = 1,
    under: str = CHECKPOINTS,
    journal: bool = False,
) -> dict[str, Any]:
    """Return the fault of the `at`-th change under a folder, and so many after it.

    Args:
        at: The first call that fails, from 1 on; 0 for none, and calls are only counted.
        error: Its error number; 0 kills the process.
        count: How many calls fail.
        under: The folder, in the place of the run.
        journal: Whether every call is written down, with what it wrote, in the file `journal`.
    """
    return {"under": under, "at": at, "count": count, "errno": error, "journal": journal}


def calls(place: Path) -> list[str]:
    """Return the calls that the run in `place` made under the folder of its fault."""
    return (place / "calls").read_text().splitlines()


def outcome(place: Path) -> dict[str, Any]:
    """Return all that must be the same bit for bit: what was told of each step, and what is left.

    Of the last checkpoint that is the weights, the moments, the random states and the state that
    the sequences would go on from.
    """
    run = place / RUN
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = sorted((run / "checkpoints").glob("step-*[0-9]"))[-1]
    files = [run / "model" / "model.safetensors", *sorted(last.rglob("*"))]
    left_out = ("MANIFEST.json", "training.json")  # they tell of the time that it took
    return {
        "metrics.jsonl": [{key: line.get(key) for key in TOLD} for line in lines],
        **{
            file.relative_to(run).as_posix(): file.read_bytes()
            for file in files
            if file.is_file() and file.name not in left_out
        },
    }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what is not the same in two outcomes."""
    return [key for key in expected.keys() | found.keys() if found.get(key) != expected.get(key)]


def check_checkpoints(place: Path) -> int:
    """Verify every checkpoint of the run in `place`, and return how many there are."""
    found = list_checkpoints(place / CHECKPOINTS)
    for path in found:
        verify(path)
    return len(found)
