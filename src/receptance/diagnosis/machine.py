"""The machine as the package sees it: versions, processor, devices, memory and disk."""

import importlib.util
import os
import platform
import shutil
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from huggingface_hub import constants

from receptance.ops.memory import available_bytes
from receptance.ops.native import instruction_sets

# Beside PyTorch itself, what decides how fast or whether something runs.
PACKAGES = ("receptance", "torch", "triton", "numpy", "safetensors", "tokenizers")
# What drivers put into the system, by the vendor of the card.
_DRIVERS = {"NVIDIA": Path("/dev/nvidiactl"), "AMD": Path("/dev/kfd")}


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What computes without a GPU."""

    machine: str
    """Such as "x86_64"."""
    usable_cores: int
    """Those that this process may use."""
    threads: int
    """With which PyTorch, and so every kernel of ours, computes."""
    instruction_sets: list[str]
    """That our kernels can use, narrowest first; they use the last. Empty without the extension."""
    torch_instruction_set: str
    """That PyTorch's own kernels use."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where tensors can be."""

    name: str
    """As `device` is given, such as "cpu" or "cuda:0"."""
    description: str
    available_bytes: int | None
    """Memory that can still be taken; None if nobody says."""
    total_bytes: int | None
    capability: str | None
    """Of a GPU: the version of what its processors can, such as "9.0"."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder, and the disk that it is or would be on."""

    folder: str
    exists: bool
    free_bytes: int


def versions() -> dict[str, str | None]:
    """Return the version of Python, of the system and of `PACKAGES`; None for what is absent."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from its sources, or built into PyTorch
            is_there = importlib.util.find_spec(name) is not None
            found[name] = "not installed by a package" if is_there else None
    # It says, as its package may not, for which devices it was built.
    return {**found, "torch": torch.__version__}


def processor() -> Processor:
    """Return what computes without a GPU."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return Processor(
        machine=platform.machine(),
        usable_cores=len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instruction_sets=list(instruction_sets()),
        torch_instruction_set=torch.backends.cpu.get_cpu_capability(),
    )


def devices() -> tuple[list[Device], str | None]:
    """Return the devices that can be used, and why there is no GPU among them, as a clause."""
    cpu = Device(
        name="cpu",
        description=_processor_name() or platform.machine(),
        available_bytes=available_bytes(torch.device("cpu")),
        total_bytes=_total_bytes(),
        capability=None,
    )
    obstacle = _gpu_obstacle()
    if obstacle is not None:
        return [cpu], obstacle
    return [cpu, *(_gpu(index) for index in range(torch.cuda.device_count()))], None


def drivers() -> list[str]:
    """Return the vendors of GPUs whose driver is in the system, whatever PyTorch sees."""
    return [vendor for vendor, path in _DRIVERS.items() if path.exists()]


def cache() -> Disk:
    """Return the folder of what is downloaded from the hub."""
    folder = Path(constants.HF_HUB_CACHE)
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(nearest).free
    return Disk(folder=str(folder), exists=folder.exists(), free_bytes=free)


def _gpu(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    return Device(
        name=f"cuda:{index}",
        description=properties.name,
        available_bytes=available_bytes(torch.device("cuda", index)),
        total_bytes=properties.total_memory,
        capability=f"{properties.major}.{properties.minor}",
    )


def _gpu_obstacle() -> str | None:
    """Return why PyTorch sees no GPU, as a clause, or None if it sees one."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"this PyTorch, {torch.__version__}, is built for the CPU alone"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    reasons = " ".join(str(each.message).split("(Triggered")[0].strip() for each in said)
    return reasons or "PyTorch sees none"


def _processor_name() -> str | None:
    """Return the name that Linux has for the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _total_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a system that tells
        return None
