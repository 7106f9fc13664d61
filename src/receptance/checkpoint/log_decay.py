"""The logarithm of the decay, log_w = -exp(time_decay), which some formats store in its place."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.errors import CheckpointError


def time_decay_of(path: Path, name: str, log_w: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Return the time_decay, in float32, of which -exp(time_decay) is stored.

    It is off by at most 1e-6 where it lies in ±8, as the decays of trained models do: log_w was
    rounded to float32 once, and what comes of it is once more.

    Args:
        path: The file, for the message.
        name: Of the parameter, for the message.
        log_w: What is stored.

    Raises:
        CheckpointError: If a number is not negative: no decay has it.
    """
    time_decay = torch.log(-log_w.double()).float()
    if not bool(time_decay.isfinite().all()):
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must be the logarithms of decays, negative and finite, but "
            "some are not; the file is damaged, or is no RWKV-4"
        )
    return time_decay


def log_w_of(time_decay: Tensor) -> Tensor:
    """Return -exp(time_decay), in float32."""
    return -torch.exp(time_decay.float())
