"""All that is found about a machine, and what of it is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from receptance.diagnosis.machine import (
    Device,
    Disk,
    Processor,
    cache,
    devices,
    drivers,
    processor,
    versions,
)
from receptance.diagnosis.operations import OpFinding, op_findings
from receptance.ops.native import library_obstacle

OLDEST_TORCH = (2, 10)
"""The first PyTorch whose stable interface the extension uses."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What `receptance doctor` tells."""

    versions: dict[str, str | None]
    """Of packages; None for one that is not installed."""
    processor: Processor
    devices: list[Device]
    no_gpu: str | None
    """Why there is no GPU among the devices, as a clause."""
    cache: Disk
    """Of what is downloaded from the hub."""
    ops: list[OpFinding]
    problems: list[str]
    """What keeps something from running that should run here, each with what to do."""


def examine() -> Examination:
    """Look at the machine and ask every op; nothing is run, written or downloaded."""
    found_versions = versions()
    found, no_gpu = devices()
    ops = [each for device in found for each in op_findings(torch.device(device.name))]
    return Examination(
        versions=found_versions,
        processor=processor(),
        devices=found,
        no_gpu=no_gpu,
        cache=cache(),
        ops=ops,
        problems=problems(
            found_versions, no_gpu=no_gpu, drivers=drivers(), library=library_obstacle(), ops=ops
        ),
    )


def problems(
    versions: dict[str, str | None],
    *,
    no_gpu: str | None,
    drivers: Sequence[str],
    library: str | None,
    ops: Sequence[OpFinding],
) -> list[str]:
    """Return what is wrong, each as a sentence that says what to do.

    That there is no GPU is not wrong; that there is one and PyTorch does not see it is.

    Args:
        versions: As `receptance.diagnosis.machine.versions` gives them.
        no_gpu: Why PyTorch sees no GPU, as a clause; None if it sees one.
        drivers: Vendors of GPUs whose driver is in the system.
        library: Why the extension cannot be used, as a clause; None if it can.
        ops: What was found about every op.
    """
    found: list[str] = []
    torch_version = versions["torch"] or ""
    if _numbers(torch_version) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        found.append(f"torch must be {oldest} or later, got {torch_version}; install a newer one")
    if library is not None:
        found.append(f"kernels for the CPU cannot run: {library}")
    if no_gpu is not None and drivers:
        found.append(
            f"the system has a driver of {' and '.join(drivers)}, but no GPU can be used: "
            f"{no_gpu}; install a PyTorch that is built for it, as https://pytorch.org/get-started "
            "says"
        )
    if no_gpu is None and versions["triton"] is None:
        found.append(
            "there is a GPU, but its kernels cannot run without triton; install it with: "
            "pip install triton"
        )
    found += [
        f"{each.op} cannot run on {each.device} in {each.dtype} for {each.purpose}"
        for each in ops
        if each.chosen is None
    ]
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version such as "2.13.0+cpu"."""
    return tuple(int(each) for each in version.split("+")[0].split(".")[:2] if each.isdecimal())
