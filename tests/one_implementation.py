"""Ops whose "auto" is one implementation, whatever else could run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest.mock import patch

from receptance.ops import (
    gate,
    layer_norm,
    linear,
    linear_cross_entropy,
    norm_shift_mix,
    quantized_linear,
    squared_relu,
    wkv4,
)
from receptance.ops.dispatch import Implementation
from receptance.ops.linear_cross_entropy import quantized

OPS: tuple[ModuleType, ...] = (
    gate,
    layer_norm,
    linear,
    linear_cross_entropy,
    norm_shift_mix,
    quantized_linear,
    squared_relu,
    wkv4,
)
"""The ops of a model's forward and its loss."""


@contextmanager
def only(name: str) -> Iterator[None]:
    """Leave in each op's table `name` alone, or the reference where the op has no such row.

    With "triton" an op on the CPU then does what it does on a GPU.
    """
    # What the loss of a rounded head runs is chosen without a table.
    kernel = {"triton": "triton", "native": "native"}.get(name, "plain")
    with ExitStack() as stack:
        stack.enter_context(patch.object(quantized, "_kernel", lambda _: kernel))
        for op in OPS:
            for key, rows in vars(op).copy().items():
                if key.endswith("IMPLEMENTATIONS"):
                    stack.enter_context(patch.object(op, key, _only(rows, name)))
        yield


def _only(rows: tuple[Implementation, ...], name: str) -> tuple[Implementation, ...]:
    return tuple(each for each in rows if each.name == name) or rows[-1:]
