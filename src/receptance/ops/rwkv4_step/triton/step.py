"""The step on a GPU: `RWKV4TritonStep`, made once of a model's weights."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from receptance.ops.device import upload_into
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.rwkv4_step.native import RWKV4Weights
from receptance.ops.rwkv4_step.triton.launch import launch_step
from receptance.ops.rwkv4_step.triton.plan import Workspace, make_plan, make_workspace
from receptance.ops.rwkv4_step.triton.replay import Replays, recorder_of
from receptance.ops.rwkv4_step.triton.turns import turns_on
from receptance.ops.triton import on_device_of


class RWKV4TritonStep:
    """One token to each of many sequences, on a GPU; the processor waits for nothing.

    The launches of a batch size are recorded when it is first met with a pool, and replayed from
    then on. Threads and streams may share a step: they take turns at its buffers. What they share
    of a pool is their own affair.
    """

    def __init__(
        self,
        weights: RWKV4Weights,
        *,
        vocab_size: int,
        eps: float,
        format: QuantizedFormat | None,
    ) -> None:
        """Plan for these weights, which must not be moved or resized from now on.

        Args:
            weights: All weights; `triton_step_obstacle` found none in their way.
            vocab_size: Rows of embedding and head.
            eps: What every LayerNorm adds to the variance.
            format: That of the matrices in uint8; None if there are none.

        Raises:
            ValueError: If a matrix is of another shape than it must be.
        """
        with torch.inference_mode(mode=False), torch.no_grad():
            self._plan = make_plan(weights, vocab_size=vocab_size, eps=eps, format=format)
        self._workspaces: dict[int, Workspace] = {}
        self._replays = Replays(recorder_of(weights.head.device))
        self._turns = turns_on(weights.head.device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Plan anew for copied weights: buffers and graphs are of one process and one device."""
        plan = self._plan
        sizes = {"vocab_size": plan.vocab_size, "eps": plan.eps, "format": plan.format}
        return partial(RWKV4TritonStep, **sizes), (plan.weights,)

    def __call__(
        self,
        tokens: Int[Tensor, " B"],
        pool: Sequence[Float[Tensor, "L slots C"]],
        slots: Int[Tensor, " B"],
    ) -> Float[Tensor, "B V"]:
        """Feed one token to each of B sequences; return the logits of their next ones.

        What is in `tokens` and `slots` is not looked at here, since that would wait for the GPU.
        A token or a slot that is not there makes its own row of logits NaN and changes nothing.

        Args:
            tokens: One for each sequence, in the vocabulary; here or on the GPU, as are `slots`.
            pool: The five tensors of a state of RWKV-4, in its order. Those of `slots` change in
                place; no other is read.
            slots: Which of the pool's sequences each token belongs to; no two the same.

        Returns:
            Logits in float32. A row, and its slot's state, do not depend on the others, and on
            their number as `tile_of` says.

        Raises:
            ValueError: If a tensor does not fit the plan.
        """
        self._check(tokens, pool, slots)
        batch = len(tokens)
        if batch == 0:
            return pool[0].new_empty(0, self._plan.vocab_size)
        key = (batch, pool[0].shape[1], *(each.data_ptr() for each in pool))
        with on_device_of(pool[0]), self._turns.turn():
            work = self._workspace(batch)
            upload_into(work.tokens[:batch], tokens)
            upload_into(work.slots[:batch], slots)
            self._replays.run(key, partial(launch_step, self._plan, work, pool, batch))
            # The next step writes over these logits, and whoever has a row may keep it.
            return work.logits[:batch].clone()

    def _workspace(self, batch: int) -> Workspace:
        """Return buffers for a batch: those of the next power of two, which do not move."""
        capacity = 1 << (batch - 1).bit_length()
        if capacity not in self._workspaces:
            self._workspaces[capacity] = make_workspace(self._plan, capacity)
        return self._workspaces[capacity]

    def _check(self, tokens: Tensor, pool: Sequence[Tensor], slots: Tensor) -> None:
        if tokens.ndim != 1 or slots.shape != tokens.shape:
            raise ValueError(
                f"`tokens` and `slots` must have the same shape [B], got {list(tokens.shape)} and "
                f"{list(slots.shape)}"
            )
        L, C, device = len(self._plan.layers), self._plan.n_embd, self._plan.weights.head.device
        n_slots = pool[0].shape[1] if pool[0].ndim == 3 else "slots"
        for tensor in pool:
            if list(tensor.shape) != [L, n_slots, C]:
                raise ValueError(
                    f"`pool` must be of the shape {[L, n_slots, C]}, and a tensor has "
                    f"{list(tensor.shape)}"
                )
            if tensor.dtype != torch.float32 or tensor.device != device:
                raise ValueError(
                    f"`pool` must be float32 on {device}, and a tensor is {tensor.dtype} on "
                    f"{tensor.device}"
                )
            if not tensor.is_contiguous():
                raise ValueError(
                    "`pool` must be contiguous, since it is changed in place, and a tensor has "
                    f"the strides {tensor.stride()}"
                )
