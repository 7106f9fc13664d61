"""RWKV-4 made ready to decode on a GPU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from receptance.models.low_rank import LowRankChanges
from receptance.models.packed import PackedForward, check_step, join_rows
from receptance.models.state import State
from receptance.ops.rwkv4_step import RWKV4TritonStep

if TYPE_CHECKING:
    from receptance.models.rwkv4 import RWKV4


class PackedTritonRWKV4:
    """The step in Triton's kernels. A sequence with changes is fed to the model's forward."""

    def __init__(self, step: RWKV4TritonStep, model: "RWKV4") -> None:
        """Follow a plan.

        Args:
            step: Made of the weights.
            model: The same, as a model.
        """
        self._step = step
        self._vocab_size = model.config.vocab_size
        self._forward = PackedForward(model, self._vocab_size)

    @torch.no_grad()
    def step(
        self,
        tokens: Int[Tensor, " B"],
        pool: State,
        slots: Int[Tensor, " B"],
        changes: Sequence[LowRankChanges | None] = (),
    ) -> Float[Tensor, "B V"]:
        """Feed one token to each sequence: see `PackedModel.step`."""
        check_step(tokens, pool, slots, self._vocab_size, changes)
        vectors = list(pool.tensors.values())
        if not any(changes):
            return self._step(tokens, vectors, slots)
        here = [row for row, each in enumerate(changes) if each is None]
        elsewhere = [row for row, each in enumerate(changes) if each is not None]
        others = [changes[row] for row in elsewhere]
        theirs = self._forward.step(tokens[elsewhere], pool, slots[elsewhere], others)
        ours = self._step(tokens[here], vectors, slots[here])
        return join_rows([here, elsewhere], [ours, theirs])
