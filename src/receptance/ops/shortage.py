"""Memory that does not suffice: how much was wanted, how much there is, and what to change."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from receptance.errors import MemoryShortageError
from receptance.ops.memory import available_bytes

__all__ = ["explain_shortage", "explaining_shortage"]

# What allocators say. PyTorch's for GPUs: "Tried to allocate 2.00 GiB. GPU 0 has …". Its own for
# the CPU is told from other errors by its text alone: "… you tried to allocate 4096 bytes. …".
_OF_CPU = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes|std::bad_alloc")
_OF_GPU = re.compile(r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB|TiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_CPU = torch.device("cpu")


@contextmanager
def explaining_shortage(
    purpose: str, device: torch.device, remedies: Callable[[], str]
) -> Iterator[None]:
    """Raise a MemoryShortageError where an allocation fails within.

    Args:
        purpose: What the memory is for, as the subject of a sentence.
        device: Where else than on the CPU it may be wanted.
        remedies: Returns what to change, as the end of a sentence.

    Raises:
        MemoryShortageError: If a device or the CPU has not the memory that was asked for.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = explain_shortage(error, purpose, device)
        if said is None:
            raise
        raise MemoryShortageError(f"{said}; {remedies()}") from error


def explain_shortage(error: BaseException, purpose: str, device: torch.device) -> str | None:
    """Return what was wanted and what there is, as a sentence; None for any other error.

    On the CPU a system may grant more than there is and end the process when it is used; nothing
    can be said then.

    Args:
        error: As it was raised.
        purpose: What the memory is for, as the subject of a sentence.
        device: Where it was wanted, unless the error says that it was on the CPU.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        found = _OF_GPU.search(text)
        wanted = round(float(found[1]) * _UNITS[found[2]]) if found else None
    elif isinstance(error, MemoryError):
        device, wanted = _CPU, None
    elif found := _OF_CPU.search(text):
        device, wanted = _CPU, int(found[1]) if found[1] else None
    else:
        return None
    more = "more" if wanted is None else f"another {_gigabytes(wanted)} of"
    there = available_bytes(device)
    but = "there is not" if there is None else f"{_gigabytes(there)} are available"
    return f"{purpose} must have {more} memory on {device}, but {but}"


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.3f} GB"
