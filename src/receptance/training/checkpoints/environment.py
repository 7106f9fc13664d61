"""What a run's bits depend on besides its settings and its data."""

import platform

import torch

from receptance.ops.native import instruction_sets
from receptance.version import package_version


def environment(world_size: int = 1) -> dict[str, str | int]:
    """Return the versions, the threads and the processor's abilities that round this run's sums."""
    sets = list(instruction_sets())
    return {
        "receptance": package_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instruction set of torch": torch.backends.cpu.get_cpu_capability(),
        "instruction set of the kernels": sets[-1] if sets else "none",
        "threads": torch.get_num_threads(),
        "ranks": world_size,
        "device": torch.cuda.get_device_name() if torch.cuda.is_initialized() else "cpu",
    }


def changes(before: dict[str, str | int], now: dict[str, str | int]) -> list[str]:
    """Return what is no longer as it was, each as a clause such as "threads: 2, now 1"."""
    # A step is the same in every version of Python: it only calls.
    return [
        f"{key}: {before.get(key)}, now {value}"
        for key, value in now.items()
        if before.get(key) != value and key != "python"
    ]
