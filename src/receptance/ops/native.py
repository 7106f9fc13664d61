"""The native extension: whether it is there, and what it can run on this processor.

The extension is one shared library beside this file, put there by `make setup` or by the wheel. It
is loaded once, when this module is imported; without it the package works, through the reference
implementations. A library that is there but cannot be loaded is an error, not an absence.
"""

from pathlib import Path

import torch
from torch import Tensor

__all__ = [
    "gradient_obstacle",
    "instruction_sets",
    "library_obstacle",
    "number_obstacle",
]

LIBRARY = Path(__file__).with_name("libreceptance_native.so")

_OBSTACLE = (
    None
    if LIBRARY.is_file()
    else f"the extension is not built, {LIBRARY} does not exist; build it with: make setup"
)
if _OBSTACLE is None:
    torch.ops.load_library(LIBRARY)


# What kernels compute in, with what enters and leaves matrices.
_SERVED = {
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.float64, torch.float64),
}


def library_obstacle() -> str | None:
    """Return why the extension cannot be used, as a clause, or None if it can."""
    return _OBSTACLE


def instruction_sets() -> dict[str, int]:
    """Return the instruction sets that kernels can use here, narrowest first.

    Returns:
        The name of each ("portable"; "avx2", "avx512", "avx512_bf16"; "neon"), with the number that
        the ops take it by. Ops use the last one unless told otherwise. Empty without the extension.
    """
    if _OBSTACLE is not None:
        return {}
    pairs = (each.split("=") for each in torch.ops.receptance.instruction_sets().split())
    return {name: int(number) for name, number in pairs}


def number_obstacle(real: torch.dtype, element: torch.dtype, *tensors: Tensor) -> str | None:
    """Return why the extension cannot run tensors on numbers of these types, or None if it can.

    Args:
        real: What is computed in.
        element: What enters and leaves matrices.
        tensors: All that the op reads.

    Returns:
        A clause. Served are (float32, float32), (float32, bfloat16) and (float64, float64).
    """
    for tensor in tensors:
        if not tensor.is_cpu:
            return f"it runs on the cpu, and a tensor is on {tensor.device}"
    if (real, element) not in _SERVED:
        return (
            "it serves float32, float32 with bfloat16, and float64, and these tensors are "
            f"{real} with {element}"
        )
    return _OBSTACLE


def gradient_obstacle(*tensors: Tensor) -> str | None:
    """Return why an op without gradients cannot run these tensors here, or None if it can.

    Args:
        tensors: All that the op reads.

    Returns:
        A clause.
    """
    for tensor in tensors:
        if not tensor.is_cpu:
            return f"it runs on the cpu, and a tensor is on {tensor.device}"
        if tensor.requires_grad and torch.is_grad_enabled():
            return "it has no gradient, and one is wanted; use torch.no_grad()"
    if torch.is_autocast_enabled("cpu"):
        return "it knows nothing of autocast, which is on"
    return None
