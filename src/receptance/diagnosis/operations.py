"""Each op's implementations, and why each can or cannot run on a device.

Nothing is run. Tables are asked as a call would ask them, with small tensors of the device.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from receptance.ops import (
    gate,
    half_linear,
    layer_norm,
    linear,
    linear_cross_entropy,
    norm_shift_mix,
    quantized_linear,
    rwkv4_step,
    squared_relu,
    wkv4,
)
from receptance.ops.dispatch import Implementation

TRAINING = "training"
INFERENCE = "inference"

# Rows and columns of a matrix, that whole panels and groups of every format fit into.
_N = 32


@dataclass(frozen=True, kw_only=True)
class OpFinding:
    """One op as it would be called on a device."""

    op: str
    device: str
    purpose: str
    """"training", where gradients are wanted, or "inference"."""
    dtype: str
    """What enters and leaves matrices, as "bfloat16"."""
    chosen: str | None
    """The implementation that runs; None if none can."""
    obstacles: dict[str, str | None]
    """Why each implementation cannot run, as a clause; None where it can. Fastest first."""


class Tensors(NamedTuple):
    """Makes small tensors as a call has them."""

    device: torch.device
    dtype: torch.dtype
    """Of what enters and leaves matrices; all else is float32."""
    wants_gradient: bool

    def wide(self, *shape: int) -> Tensor:
        """Return zeros in float32."""
        return torch.zeros(
            shape, device=self.device, requires_grad=self.wants_gradient, dtype=torch.float32
        )

    def narrow(self, *shape: int) -> Tensor:
        """Return zeros in the dtype of matrices."""
        return torch.zeros(
            shape, device=self.device, requires_grad=self.wants_gradient, dtype=self.dtype
        )


class Probe(NamedTuple):
    """An op, and how it is asked."""

    op: str
    table: tuple[Implementation, ...]
    arguments: Callable[[Tensors], tuple[Any, ...]]
    """Makes the arguments of its implementations."""
    purposes: tuple[str, ...] = (TRAINING, INFERENCE)
    dtypes: tuple[torch.dtype, ...] | None = None
    """Of the matrices that it is for; None is all."""


def _wkv4(make: Tensors) -> tuple[Any, ...]:
    state = wkv4.WKV4State.zeros(1, _N, device=make.device)
    k = make.narrow(1, 1, _N)
    return make.wide(_N), make.wide(_N), k, k, state, None


def _norm_shift_mix(make: Tensors) -> tuple[Any, ...]:
    vector = make.wide(_N)
    x, x_last = make.wide(1, 1, _N), make.wide(1, _N)
    return x, vector, vector, (vector, vector), x_last, None, 1e-5, make.dtype


def _layer_norm(make: Tensors) -> tuple[Any, ...]:
    return make.wide(1, _N), make.wide(_N), make.wide(_N), 1e-5


def _cross_entropy(make: Tensors) -> tuple[Any, ...]:
    targets = torch.zeros(1, dtype=torch.int64, device=make.device)
    return make.wide(1, _N), make.wide(_N, _N), targets, 0.0, make.dtype, None


def _quantized_linear(make: Tensors) -> tuple[Any, ...]:
    format = quantized_linear.QuantizedFormat(bits=8, group_size=32)
    data = torch.zeros(format.weight_shape(_N, _N), dtype=torch.uint8, device=make.device)
    return make.wide(1, _N), quantized_linear.QuantizedWeight(data, format, _N, _N)


def _rwkv4_step(make: Tensors) -> tuple[Any, ...]:
    fields = rwkv4_step.RWKV4LayerWeights._fields
    layer = [
        make.narrow(_N, _N) if name in rwkv4_step.CHANGEABLE else make.wide(_N) for name in fields
    ]
    matrix, vector = make.narrow(_N, _N), make.wide(_N)
    return (
        rwkv4_step.RWKV4Weights(
            *(matrix, matrix, None, None, vector, vector),
            layers=[rwkv4_step.RWKV4LayerWeights(*layer)],
        ),
    )


# The step has no table: a model is packed for the first of these that can run, in this order, and
# where none can, its own forward does.
_STEP = (
    Implementation("native", rwkv4_step.rwkv4_step, rwkv4_step.native_obstacle),
    Implementation("triton", rwkv4_step.RWKV4TritonStep, rwkv4_step.triton_step_obstacle),
    Implementation("forward", lambda *_: None, lambda *_: None),
)

_HALF = (torch.float16,)

PROBES = (
    Probe("wkv4", wkv4.IMPLEMENTATIONS, _wkv4),
    Probe("norm_shift_mix", norm_shift_mix.IMPLEMENTATIONS, _norm_shift_mix),
    Probe("layer_norm", layer_norm.IMPLEMENTATIONS, _layer_norm),
    Probe(
        "linear",
        linear.IMPLEMENTATIONS,
        lambda make: (make.narrow(1, _N), make.narrow(_N, _N)),
    ),
    Probe(
        "squared_relu",
        squared_relu.SQUARED_RELU_IMPLEMENTATIONS,
        lambda make: (make.narrow(1, _N),),
    ),
    Probe(
        "squared_relu_linear",
        squared_relu.IMPLEMENTATIONS,
        lambda make: (make.narrow(1, _N), make.narrow(_N, _N)),
    ),
    Probe(
        "gate",
        gate.GATE_IMPLEMENTATIONS,
        lambda make: (make.narrow(1, _N), make.narrow(1, _N)),
    ),
    Probe(
        "gated_add",
        gate.GATED_ADD_IMPLEMENTATIONS,
        lambda make: (make.wide(1, _N), make.narrow(1, _N), make.narrow(1, _N)),
    ),
    Probe("linear_cross_entropy", linear_cross_entropy.IMPLEMENTATIONS, _cross_entropy),
    Probe("quantized_linear", quantized_linear.IMPLEMENTATIONS, _quantized_linear),
    Probe(
        "half_linear",
        half_linear.IMPLEMENTATIONS,
        lambda make: (make.wide(1, _N), make.wide(_N, _N).half()),
        (INFERENCE,),
        _HALF,
    ),
    Probe(
        "half_square",
        half_linear.SQUARE_IMPLEMENTATIONS,
        lambda make: (make.wide(1, _N),),
        (INFERENCE,),
        _HALF,
    ),
    Probe("rwkv4_step", _STEP, _rwkv4_step, (INFERENCE,)),
)


def dtypes_of(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return what matrices may be in on a device: float16 is for GPUs."""
    both = torch.float32, torch.bfloat16
    return both if device.type == "cpu" else (*both, torch.float16)


def op_findings(device: torch.device) -> Iterator[OpFinding]:
    """Ask every op of `PROBES` about every purpose and dtype on a device."""
    for probe in PROBES:
        for purpose in probe.purposes:
            for dtype in dtypes_of(device):
                if probe.dtypes is not None and dtype not in probe.dtypes:
                    continue
                yield _ask(probe, purpose, Tensors(device, dtype, purpose == TRAINING))


def _ask(probe: Probe, purpose: str, make: Tensors) -> OpFinding:
    with nullcontext() if make.wants_gradient else torch.no_grad():
        arguments = probe.arguments(make)
        obstacles = {each.name: each.obstacle(*arguments) for each in probe.table}
    runs = (name for name, obstacle in obstacles.items() if obstacle is None)
    return OpFinding(
        op=probe.op,
        device=str(make.device),
        purpose=purpose,
        dtype=str(make.dtype).removeprefix("torch."),
        chosen=next(runs, None),
        obstacles=obstacles,
    )
