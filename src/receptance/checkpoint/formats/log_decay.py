"""The logarithm of the decay, log_w = -exp(time_decay), which some formats store in its place."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.errors import CheckpointError


def time_decay_of(path: Path, name: str, log_w: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Return the time_decay, in float32, of which -exp(time_decay) is stored.

    It is computed in float64 and rounded once. Of a log_w that is off by no more than a unit in its
    last place it is within 2.5e-7 of the original, and that itself where it lies from 4 to 87 or
    from -87 to -4.

    Args:
        path: The file, for the message.
        name: Of the parameter, for the message.
        log_w: What is stored.

    Raises:
        CheckpointError: If a number is not negative and finite: no decay has it.
    """
    least, greatest = torch.aminmax(log_w)
    if not bool(-math.inf < least and greatest < 0):  # so is NaN
        raise CheckpointError(
            f"{name!r} in {str(path)!r} must be stored as -exp(time_decay), which is negative and "
            f"finite, but it goes from {least.item():g} to {greatest.item():g}"
        )
    return torch.log(-log_w.double()).float()


def log_w_of(name: str, time_decay: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Return -exp(time_decay), computed in float32 as the models do.

    Args:
        name: Of the parameter, for the message.
        time_decay: The parameter.

    Raises:
        CheckpointError: If a number is not negative and finite in float32.
    """
    log_w = -torch.exp(time_decay.float())
    least, greatest = torch.aminmax(log_w)
    if not bool(-math.inf < least and greatest < 0):
        raise CheckpointError(
            f"-exp of {name!r} must be negative and finite in float32 to be stored in its place, "
            f"but it goes from {least.item():g} to {greatest.item():g}"
        )
    return log_w
