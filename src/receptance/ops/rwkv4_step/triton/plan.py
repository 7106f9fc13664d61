"""What the kernels of the step are given: weights as they lie, and buffers for what is between.

Nothing of the weights is packed anew: numbers lie by rows [N, K], and levels in the panels of
receptance.ops.quantized_linear, whose 32 rows are a program's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from receptance.ops.quantized_linear import BLOCK_COLUMNS, QuantizedFormat
from receptance.ops.rwkv4_step.native import RWKV4LayerWeights, RWKV4Weights
from receptance.ops.triton import triton_obstacle


class Matrix(NamedTuple):
    """A matrix as kernels read it."""

    data: Tensor
    """Its numbers; or its panels as words of 32 bits (an embedding's rows as bytes)."""
    numbers: Tensor
    """The same memory as numbers of bfloat16, of which some are scales; or `data`."""

    @classmethod
    def of(cls, weight: Tensor, *, is_embedding: bool = False) -> "Matrix":
        """Return how kernels read a weight; nothing is copied."""
        if weight.dtype != torch.uint8:
            return cls(weight, weight)
        data = weight if is_embedding else weight.view(torch.int32)
        return cls(data, weight.view(torch.bfloat16))


class LayerPlan(NamedTuple):
    """A layer: its vectors as they are, its mixes beside each other, its matrices."""

    vectors: RWKV4LayerWeights
    mixes: Tensor
    """[3, C], of k, v and r."""
    channel_mixes: Tensor
    """[2, C], of k and r."""
    matrices: dict[str, Matrix]
    """By their names in `RWKV4LayerWeights`."""


@dataclass(frozen=True)
class TritonPlan:
    """All that stays the same from step to step."""

    weights: RWKV4Weights
    embedding: Matrix
    head: Matrix
    layers: Sequence[LayerPlan]
    vocab_size: int
    eps: float
    format: QuantizedFormat | None

    @property
    def n_embd(self) -> int:
        """C."""
        return len(self.weights.ln_out_bias)

    @property
    def input_dtype(self) -> torch.dtype:
        """That of what enters a matrix: the dtype of its numbers, or int8."""
        return self.weights.head.dtype if self.format is None else torch.int8

    def padded(self, n_in: int) -> int:
        """Return the columns of what enters a matrix of `n_in` columns: whole groups."""
        format = self.format
        return n_in if format is None else format.n_groups(n_in) * format.group_size


@dataclass(frozen=True)
class Workspace:
    """Buffers of a step of at most `capacity` sequences, at addresses that stay."""

    capacity: int
    tokens: Tensor
    slots: Tensor
    rows: Tensor
    """The slots that are there; -1 for others."""
    x: Tensor
    """The stream [capacity, C]."""
    mixed: Tensor
    """What enters the first matrices of a part [3, capacity, C padded], and the head."""
    mixed_scales: Tensor
    gated: Tensor
    gated_scales: Tensor
    squared: Tensor
    squared_scales: Tensor
    r: Tensor
    logits: Tensor


def triton_step_obstacle(weights: RWKV4Weights) -> str | None:
    """Return why Triton's kernels cannot step with these weights, as a clause, or None if they can.

    Args:
        weights: All of them; matrices of one kind, whereas the embedding may be of another.
    """
    for tensor in weights.tensors:
        if type(tensor) is not Tensor:
            return (
                f"a part of a matrix on each rank is no matrix, and one is {type(tensor).__name__}"
            )
        if not tensor.is_contiguous():
            return f"all weights must be contiguous, and one has the strides {tensor.stride()}"
        if tensor.device != weights.head.device:
            return f"all weights must be on one device, and one is on {tensor.device}"
        if tensor.ndim == 1 and tensor.dtype != torch.float32:
            return f"vectors must be float32, and one is {tensor.dtype}"
    matrices = [tensor for layer in weights.layers for tensor in layer if tensor.ndim > 1]
    if kinds := {each.dtype for each in matrices} - {weights.head.dtype}:
        return f"all matrices must be of one dtype, and one is {kinds.pop()}"
    if any(each.ndim == 3 for each in matrices) and weights.head.dtype != torch.uint8:
        return "its matrices must lie by rows, and some lie by columns"
    return triton_obstacle(*weights.tensors)


def make_plan(
    weights: RWKV4Weights, *, vocab_size: int, eps: float, format: QuantizedFormat | None
) -> TritonPlan:
    """Return the plan of these weights, which must not be moved or resized from now on.

    Args:
        weights: All weights; `triton_step_obstacle` found none in their way.
        vocab_size: Rows of embedding and head.
        eps: What every LayerNorm adds to the variance.
        format: That of the matrices in uint8; None if there are none.

    Raises:
        ValueError: If a matrix is of another shape than it must be.
    """
    C = len(weights.ln_out_bias)
    shapes = {"channel_key": (4 * C, C), "channel_value": (C, 4 * C)}
    layers: list[LayerPlan] = []
    for layer in weights.layers:
        matrices = {name: getattr(layer, name) for name in RWKV4LayerWeights._fields[-7:]}
        for name, tensor in matrices.items():
            _require_shape(name, tensor, *shapes.get(name, (C, C)), format)
        mixes = torch.stack([layer.mix_k, layer.mix_v, layer.mix_r])
        channel_mixes = torch.stack([layer.channel_mix_k, layer.channel_mix_r])
        read = {name: Matrix.of(tensor) for name, tensor in matrices.items()}
        layers.append(LayerPlan(layer, mixes, channel_mixes, read))
    _require_shape("head", weights.head, vocab_size, C, format)
    embedding = Matrix.of(weights.embedding, is_embedding=True)
    if weights.embedding.dtype == torch.uint8:
        assert format is not None
        expected = format.embedding_shape(vocab_size, C)
        _require("embedding", weights.embedding, expected)
    else:
        _require("embedding", weights.embedding, (vocab_size, C))
    head = Matrix.of(weights.head)
    return TritonPlan(weights, embedding, head, layers, vocab_size, eps, format)


def make_workspace(plan: TritonPlan, capacity: int) -> Workspace:
    """Return buffers for steps of at most `capacity` sequences.

    What pads levels to whole groups is 0 from now on: no kernel writes there.
    """
    device, C, H = plan.weights.head.device, plan.n_embd, 4 * plan.n_embd

    def numbers(*shape: int) -> Tensor:
        return torch.empty(shape, device=device)

    def inputs(*shape: int) -> tuple[Tensor, Tensor]:
        if plan.format is None:
            return torch.empty(shape, dtype=plan.input_dtype, device=device), numbers(1)
        *batch, n_in = shape
        width = plan.padded(n_in)
        levels = torch.zeros([*batch, width], dtype=plan.input_dtype, device=device)
        return levels, torch.zeros([*batch, width // BLOCK_COLUMNS], device=device)

    # Whoever decodes in inference mode must not make buffers that others cannot write.
    with torch.inference_mode(mode=False):
        mixed, mixed_scales = inputs(3, capacity, C)
        gated, gated_scales = inputs(capacity, C)
        squared, squared_scales = inputs(capacity, H)
        tokens, slots, rows = (
            torch.empty(capacity, dtype=torch.int64, device=device) for _ in range(3)
        )
        return Workspace(
            capacity=capacity,
            tokens=tokens,
            slots=slots,
            rows=rows,
            x=numbers(capacity, C),
            mixed=mixed,
            mixed_scales=mixed_scales,
            gated=gated,
            gated_scales=gated_scales,
            squared=squared,
            squared_scales=squared_scales,
            r=numbers(capacity, C),
            logits=numbers(capacity, plan.vocab_size),
        )


def _require_shape(
    name: str, tensor: Tensor, n_out: int, n_in: int, format: QuantizedFormat | None
) -> None:
    _require(name, tensor, format.weight_shape(n_out, n_in) if format else (n_out, n_in))


def _require(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"`{name}` must have the shape {list(shape)} in this model, got {list(tensor.shape)}"
        )
