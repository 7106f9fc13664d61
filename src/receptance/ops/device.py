"""Where tensors are computed, and how they come there."""

import torch
from torch import Tensor

AUTO = "auto"


def device_of(name: str) -> torch.device:
    """Return a device, if it is there.

    Args:
        name: One of PyTorch's, such as "cpu", "cuda" or "cuda:1", or "auto": the first GPU if
            there is one, or else the CPU.

    Raises:
        ValueError: If PyTorch knows no such device, or finds none on this machine.
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"`device` must be 'auto' or one such as 'cpu' or 'cuda', got {name!r}"
        ) from error
    n_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise ValueError(
            f"`device` must be there, but of GPUs PyTorch {torch.__version__} sees {n_gpus}, got "
            f"{name!r}; use 'cpu' or 'auto', or install a build of PyTorch for your GPU"
        )
    return device


def sum_in_float32(device: torch.device) -> None:
    """Have PyTorch's products of bfloat16 on a GPU add up in float32, and round the sum once.

    Otherwise the maker's library may cut a long sum into parts, as that of a weight's gradient over
    all tokens, and round each of them to bfloat16. It holds for the process from then on.

    Args:
        device: Where products will be computed. For the CPU nothing is changed: it never does that.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting until the device has done what it was told.

    Args:
        tensor: On the CPU; it may be changed or dropped at once. One that is on a GPU is copied
            there if it is not there already.
        device: Where it is wanted. If that is the CPU, it is returned as it is.
    """
    return _ready_for(device, tensor).to(device, non_blocking=device.type == "cuda")


def upload_into(target: Tensor, tensor: Tensor) -> None:
    """Write a tensor over another, without waiting for that one's device as `upload` does not.

    Args:
        target: On any device, of the same shape.
        tensor: As for `upload`.
    """
    staged = _ready_for(target.device, tensor)
    target.copy_(staged, non_blocking=target.device.type == "cuda")


def _ready_for(device: torch.device, tensor: Tensor) -> Tensor:
    """Return a tensor as a device can fetch it whenever it comes to it.

    From memory that may be paged out, a copy would begin only once it is the device's turn.
    """
    return tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor
