"""The step on the CPU, in C++: `receptance::rwkv4_plan`, once, and `receptance::rwkv4_step`.

The interface: native/include/receptance/rwkv4_step.h. Matrices are tensors [N, K] of float32 or
bfloat16, or uint8 as receptance.ops.quantized_linear packs them. Changes of them that are not
merged have a plan too, `receptance::rwkv4_changes_plan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from receptance.ops.native import library_obstacle
from receptance.ops.quantized_linear import PANEL_ROWS, QuantizedFormat

_PLAN_STAYS = "a plan of changes must stay in its process; plan the changes anew where it is used"


class RWKV4LayerWeights(NamedTuple):
    """The weights of a layer, in the order in which the plan takes them. Vectors are [C]."""

    ln1_weight: Tensor
    ln1_bias: Tensor
    ln2_weight: Tensor
    ln2_bias: Tensor
    log_w: Tensor
    u: Tensor
    mix_k: Tensor
    mix_v: Tensor
    mix_r: Tensor
    channel_mix_k: Tensor
    channel_mix_r: Tensor
    key: Tensor
    value: Tensor
    receptance: Tensor
    output: Tensor
    channel_key: Tensor
    channel_receptance: Tensor
    channel_value: Tensor


CHANGEABLE = RWKV4LayerWeights._fields[-7:]
"""The matrices of a layer, in the order in which the plan of changes counts them."""


class RWKV4Weights(NamedTuple):
    """The weights outside of the layers, and the layers."""

    embedding: Tensor
    head: Tensor
    ln0_weight: Tensor | None
    """None, as `ln0_bias`, where the embedding is normalised already."""
    ln0_bias: Tensor | None
    ln_out_weight: Tensor
    ln_out_bias: Tensor
    layers: Sequence[RWKV4LayerWeights]

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, in the order in which the plan takes them."""
        outside = [each for each in self[:-1] if isinstance(each, Tensor)]
        return [*outside, *(tensor for layer in self.layers for tensor in layer)]


@dataclass(frozen=True)
class RWKV4Plan:
    """What a step follows: where each weight lies. A copy has weights and addresses of its own."""

    data: Tensor
    """Addresses of `weights`, which therefore live as long."""
    weights: RWKV4Weights
    vocab_size: int
    eps: float
    format: QuantizedFormat | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Plan anew for the copied weights: the addresses mean nothing elsewhere."""
        plan = partial(rwkv4_plan, vocab_size=self.vocab_size, eps=self.eps, format=self.format)
        return plan, (self.weights,)


@dataclass(frozen=True)
class RWKV4ChangesPlan:
    """What a step follows for a sequence whose model differs from the plan's by low ranks."""

    data: Tensor
    """Addresses of `factors`, which therefore live as long."""
    factors: Sequence[Tensor]

    def __deepcopy__(self, memo: dict[int, Any]) -> "RWKV4ChangesPlan":
        """Return the plan itself: a copy's addresses would outlive what they point to."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be sent elsewhere, where the addresses mean nothing."""
        raise TypeError(_PLAN_STAYS)


def native_obstacle(weights: RWKV4Weights) -> str | None:
    """Return why the extension cannot step with these weights, as a clause, or None if it can."""
    for tensor in weights.tensors:
        if type(tensor) is not Tensor:
            return (
                f"a part of a matrix on each rank is no matrix, and one is {type(tensor).__name__}"
            )
        if not tensor.is_cpu:
            return f"it runs on the cpu, and a tensor is on {tensor.device}"
        if not tensor.is_contiguous():
            return f"all weights must be contiguous, and one has the strides {tensor.stride()}"
        is_matrix = tensor.ndim > 1
        known = (torch.float32, torch.bfloat16, torch.uint8) if is_matrix else (torch.float32,)
        if tensor.dtype not in known:
            return f"it serves {[str(each) for each in known]}, and a tensor is {tensor.dtype}"
    matrices = [tensor for layer in weights.layers for tensor in layer if tensor.ndim > 1]
    narrow = {tensor.dtype == torch.bfloat16 for tensor in [*matrices, weights.head]}
    if len(narrow) > 1:
        return "its matrices must all be bfloat16 or none but the embedding, and some are"
    return library_obstacle()


def rwkv4_plan(
    weights: RWKV4Weights, *, vocab_size: int, eps: float, format: QuantizedFormat | None
) -> RWKV4Plan:
    """Return the plan of these weights, which must not be moved or resized from now on.

    Args:
        weights: All weights; `native_obstacle` found none in their way.
        vocab_size: Rows of embedding and head.
        eps: What every LayerNorm adds to the variance.
        format: That of the matrices in uint8; None if there are none.

    Raises:
        RuntimeError: If a tensor is of another shape or dtype than it must be.
    """
    bytes_ = format or QuantizedFormat(bits=8, group_size=32)  # of none, where there is no format
    n_embd = len(weights.ln_out_bias)
    data = torch.ops.receptance.rwkv4_plan(
        weights.tensors,
        *(len(weights.layers), n_embd, vocab_size, eps),
        *(bytes_.bits, bytes_.group_size, bytes_.has_offset),
    )
    return RWKV4Plan(data, weights, vocab_size, eps, format)


def rwkv4_changes_plan(
    plan: RWKV4Plan, changes: Mapping[tuple[int, str], tuple[Tensor, Tensor]]
) -> RWKV4ChangesPlan:
    """Return the plan of changes of some matrices, for steps of a plan or of another of its shapes.

    Args:
        plan: The weights.
        changes: By the layer and one of `CHANGEABLE`, A [rank, K] and B [N, rank], of which A is
            read where it lies if it can be, and B is copied.

    Raises:
        RuntimeError: If a factor is of another shape than it must be, or not on the cpu.
    """
    factors: list[Tensor] = []
    for a, b in changes.values():
        factors += [a.detach().float().contiguous(), _in_panels(b.detach().float())]
    matrices = [layer * len(CHANGEABLE) + CHANGEABLE.index(name) for layer, name in changes]
    data = torch.ops.receptance.rwkv4_changes_plan(plan.data, factors, matrices)
    return RWKV4ChangesPlan(data, factors)


def _in_panels(b: Float[Tensor, "N rank"]) -> Float[Tensor, "panels rank rows"]:
    """Return B so that a kernel reads it in one stream, with a lane for each row."""
    panels = -(-len(b) // PANEL_ROWS)
    padded = b.new_zeros(panels * PANEL_ROWS, b.shape[1])
    padded[: len(b)] = b
    return padded.view(panels, PANEL_ROWS, b.shape[1]).transpose(1, 2).contiguous()


def rwkv4_step(
    plan: RWKV4Plan,
    tokens: Int[Tensor, " B"],
    pool: Sequence[Float[Tensor, "L slots C"]],
    slots: Int[Tensor, " B"],
    changes: Sequence[RWKV4ChangesPlan | None] = (),
) -> Float[Tensor, "B V"]:
    """Feed one token to each of B sequences; return the logits of their next ones.

    Args:
        plan: The weights.
        tokens: One for each sequence, in the vocabulary.
        pool: The five tensors of a state of RWKV-4, in its order. Those of `slots` change in place.
        slots: Which of the pool's sequences each token belongs to; no two the same.
        changes: What each sequence is fed to beside the weights; an empty sequence is None for all.

    Returns:
        Logits in float32. A row, and its slot's state, do not depend on the others.

    Raises:
        RuntimeError: If a token or a slot is not there, or a tensor does not fit.
    """
    none = plan.data[:0]
    plans = [none if each is None else each.data for each in changes]
    return torch.ops.receptance.rwkv4_step(plan.data, tokens, *pool, slots, plans)
