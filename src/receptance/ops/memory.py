"""Memory itself: how fast it is read, what of it is kept, and how it comes to a device."""

import torch
from torch import Tensor

from receptance.ops.native import library_obstacle

_WORD = 8


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


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting until the device has done what it was told.

    Args:
        tensor: On the CPU; it may be changed or dropped at once.
        device: Where it is wanted. If that is the CPU, it is returned as it is.
    """
    if device.type == "cuda":
        # From memory that may be paged out, the copy would begin only once it is the device's turn.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
