"""Memory between guards, by which a kernel that writes outside of its outputs is found."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

# Elements before and after each tensor. More than a block of the kernels' that overruns by one.
GUARD = 1024


def poison(dtype: torch.dtype) -> float | int | bool:
    """Return what no kernel leaves behind by chance: NaN, or 85 where there is none."""
    if dtype == torch.bool:
        return True
    return float("nan") if dtype.is_floating_point else 85


def is_poison(tensor: Tensor) -> Tensor:
    """Return where a tensor is as `poison` left it."""
    return tensor.isnan() if tensor.is_floating_point() else tensor == poison(tensor.dtype)


@contextmanager
def guarded_memory() -> Iterator[None]:
    """Give `torch.empty` and its kin memory that is poisoned, between guards that are poisoned.

    Covers `torch.empty`, `torch.empty_like` and `Tensor.new_empty`, called from Python: what
    launchers of kernels make their outputs by.

    Raises:
        AssertionError: On leaving, if a guard was overwritten.
    """
    buffers: list[tuple[Tensor, int]] = []

    def guarded(shape: torch.Size, dtype: torch.dtype | None, device: Any) -> Tensor:
        dtype = torch.get_default_dtype() if dtype is None else dtype
        size = shape.numel()
        buffer = torch.full((size + 2 * GUARD,), poison(dtype), dtype=dtype, device=device)
        buffers.append((buffer, size))
        return buffer[GUARD : GUARD + size].view(shape)

    def empty(*size: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        shape = torch.Size(size if not size or isinstance(size[0], int) else size[0])
        return guarded(shape, dtype, device)

    def empty_like(
        tensor: Tensor,
        *,
        dtype: torch.dtype | None = None,
        device: Any = None,
        memory_format: torch.memory_format = torch.contiguous_format,  # noqa: ARG001
    ) -> Tensor:
        return guarded(tensor.shape, dtype or tensor.dtype, device or tensor.device)

    def new_empty(
        tensor: Tensor, *size: Any, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        shape = torch.Size(size if not size or isinstance(size[0], int) else size[0])
        return guarded(shape, dtype or tensor.dtype, device or tensor.device)

    with (
        patch.object(torch, "empty", empty),
        patch.object(torch, "empty_like", empty_like),
        patch.object(Tensor, "new_empty", new_empty),
    ):
        yield
    for buffer, size in buffers:
        before, after = buffer[:GUARD], buffer[GUARD + size :]
        assert is_poison(before).all(), "a kernel wrote before the start of a tensor"
        assert is_poison(after).all(), "a kernel wrote behind the end of a tensor"
