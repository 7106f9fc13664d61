"""The file of a result: what was found, and with what."""

import datetime
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from receptance.atomic import atomic_file
from receptance.version import package_version

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment found, and on which machine."""

    experiment: str
    scale: str
    command: str
    found: dict[str, Any]
    seconds: float
    machine: dict[str, Any]
    versions: dict[str, str]
    date: str

    @classmethod
    def of(
        cls, experiment: str, scale: str, found: dict[str, Any], seconds: float, *, more: str = ""
    ) -> "Result":
        """Return a result that was just found on this machine; `more` ends the command."""
        return cls(
            experiment=experiment,
            scale=scale,
            command=f"python -m paper.{experiment} --scale {scale} {more}".rstrip(),
            found=found,
            seconds=round(seconds, 1),
            machine={"cpu": _cpu(), "cores": len(os.sched_getaffinity(0))},
            versions={
                "receptance": package_version(),
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )


def write_result(result: Result, folder: Path) -> None:
    """Write a result as JSON, whole or not at all; an older one is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / f"{result.experiment}.json") as staged:
        staged.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def read_result(folder: Path, experiment: str) -> Result:
    """Return the result of an experiment.

    Raises:
        FileNotFoundError: If it was not run.
    """
    return Result(**json.loads((folder / f"{experiment}.json").read_text(encoding="utf-8")))


def _cpu() -> str:
    """Return the name of the processor, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
