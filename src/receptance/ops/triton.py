"""Triton: whether it is there, and what its kernels can run.

An op's kernels stand in its folder, in `triton/kernels.py`. They are imported by the first call
that runs one: the package works where Triton is not installed, and nothing is compiled before.

On the CPU nothing but Triton's interpreter can run a kernel. It serves tests: `interpreting`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

__all__ = ["interpreting", "kernels_of", "on_device_of", "triton_obstacle"]

# What kernels read and write; inside they compute in float32.
_SERVED = (torch.float32, torch.bfloat16, torch.float16)

# Devices of PyTorch that no Triton compiles for. A GPU is never refused for its maker.
_NO_GPU = ("cpu", "meta", "mps")

_OBSTACLE = (
    None
    if find_spec("triton") is not None
    else "triton is not installed; install it with: pip install triton"
)

# Whether kernels may be given tensors on the CPU, for Triton's interpreter.
_is_interpreting = False


def triton_obstacle(*tensors: Tensor) -> str | None:
    """Return why Triton's kernels cannot run these tensors, as a clause, or None if they can.

    Args:
        tensors: All that the op reads. Numbers must be float32, bfloat16 or float16; integers and
            truth values are the op's own affair.
    """
    if _OBSTACLE is not None:
        return _OBSTACLE
    for tensor in tensors:
        if tensor.device.type in _NO_GPU and not (_is_interpreting and tensor.is_cpu):
            return f"it runs on a GPU, and a tensor is on {tensor.device}"
        if tensor.is_floating_point() and tensor.dtype not in _SERVED:
            return f"it serves float32, bfloat16 and float16, and a tensor is {tensor.dtype}"
    return None


def kernels_of(package: str) -> Any:
    """Return the module of an op's kernels, imported (with Triton) by the first call.

    Args:
        package: The op's folder of Triton's implementation: its `__name__`.
    """
    return import_module(f"{package}.kernels")


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which kernels are launched on a tensor's GPU, the current one or not."""
    if tensor.is_cpu:
        return nullcontext()
    return torch.accelerator.device_index(tensor.device.index)


@contextmanager
def interpreting() -> Iterator[None]:
    """Let kernels run on the CPU in Triton's interpreter, which is for tests: it is very slow.

    Triton decides when a kernel is defined whether it is compiled or interpreted, and reads the
    environment variable TRITON_INTERPRET for it, which must be 1 before Triton is first imported.

    Raises:
        RuntimeError: If Triton is not installed, or would compile.
    """
    global _is_interpreting
    if _OBSTACLE is not None:
        raise RuntimeError(_OBSTACLE)
    if not import_module("triton").knobs.runtime.interpret:
        message = "kernels are compiled here; set TRITON_INTERPRET=1 before the start to interpret"
        raise RuntimeError(message)
    before, _is_interpreting = _is_interpreting, True
    try:
        yield
    finally:
        _is_interpreting = before
