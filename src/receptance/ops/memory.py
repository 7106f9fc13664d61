"""Memory itself: how fast it is read, what of it is kept, and how much there is."""

from pathlib import Path

import torch
from torch import Tensor

from receptance.ops.native import library_obstacle

_WORD = 8
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def read_all(tensor: Tensor) -> None:
    """Read every byte of a tensor once, on all of PyTorch's threads, as fast as memory gives them.

    The time that it takes is the least that any product with the tensor's numbers can take, where
    they do not fit into a cache. Without the extension it is a sum, which takes a little longer.

    Args:
        tensor: Contiguous, on the CPU.

    Raises:
        ValueError: If it is neither.
    """
    if not tensor.is_cpu or not tensor.is_contiguous():
        raise ValueError(
            f"`tensor` must be contiguous and on the cpu, got strides {tensor.stride()} on "
            f"{tensor.device}"
        )
    data = tensor.detach().view(-1).view(torch.uint8)
    if library_obstacle() is None:
        torch.ops.receptance.read_all(data[: data.numel() // _WORD * _WORD])
    else:
        data[: data.numel() // _WORD * _WORD].view(torch.int64).sum()


def page_out(tensor: Tensor) -> None:
    """Let the system take back the memory of a tensor that is not read again soon.

    What is mapped from a file is dropped, and read from the file when it is used again; nothing is
    lost in any case. Without the extension it does nothing.

    Args:
        tensor: Contiguous, on the CPU.
    """
    if library_obstacle() is None:
        torch.ops.receptance.page_out(tensor)


def available_bytes(device: torch.device) -> int | None:
    """Return how much memory can still be taken on a device; None if nobody says.

    A container's limit counts as the machine's end.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [each for each in (_of_machine(), _of_container()) if each is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return None
    numbers = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes = numbers.get("MemAvailable", "").split()
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _of_container() -> int | None:
    """Return what control groups leave: each one's limit, less what can not be given back."""
    try:
        own = _OWN_CGROUP.read_text().strip().rpartition("::/")[2]
    except OSError:  # not Linux
        return None
    folders = [_CGROUPS / own, *(_CGROUPS / own).parents]
    left = [_left_by(each) for each in folders if each.is_relative_to(_CGROUPS)]
    return min((each for each in left if each is not None), default=None)


def _left_by(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limits here, or not of the second version
        return None
    return None if limit == "max" else max(0, int(limit) - used + int(stat["inactive_file"]))
