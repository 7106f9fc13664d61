"""Memory for time: a layer's inner tensors are computed again when backward comes to it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from receptance.models import RWKV4


def checkpoint_layers(model: RWKV4) -> None:
    """Let each layer of `model` keep nothing between forward and backward but what it was given.

    Backward computes the layer forward once more, so a step costs a third more products; of a
    layer's tensors (some thirty of the size of its input) only the input stays. Results and
    gradients are the same bit for bit: what is drawn at random is drawn again from the same state,
    and autocast is as it was.

    The layers' parameters, their names and their hooks stay as they are, so that it combines with
    `fully_shard` and `torch.compile` put on before or after. Where no gradients are wanted, nothing
    changes.

    Args:
        model: Changed in place: its blocks' `forward`. A second time changes nothing more.
    """
    for block in model.blocks:
        if "forward" not in vars(block):
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *args: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args)
    return checkpoint(forward, *args, use_reentrant=False)
