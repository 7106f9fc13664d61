"""A model made ready to decode: one token to each of many sequences, in one call."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from receptance.models.state import State


@runtime_checkable
class PackedModel(Protocol):
    """What decoding needs of a model: a step. `pack()` of a model gives it."""

    def step(
        self, tokens: Int[Tensor, " B"], pool: State, slots: Int[Tensor, " B"]
    ) -> Float[Tensor, "B V"]:
        """Feed one token to each of B sequences and return the logits of the next ones.

        Args:
            tokens: One for each sequence.
            pool: The states of many sequences, of which those at `slots` change in place. No
                other is read.
            slots: Which sequence of `pool` each token belongs to; no two are the same.

        Returns:
            Logits in float32 (float64 in a float64 model). A row does not depend on the others.

        Raises:
            ValueError: If a token or a slot is not there, or a slot comes twice.
        """
        ...


class PackedForward:
    """The step as the model's own forward, on every device and in every dtype.

    What a faster one computes is defined by it.
    """

    def __init__(self, model: nn.Module, vocab_size: int) -> None:
        """Take the model as it is.

        Args:
            model: Called with tokens [B, 1], a state and `last_only`.
            vocab_size: How many tokens it knows.
        """
        self._model = model
        self._vocab_size = vocab_size

    @torch.no_grad()
    def step(
        self, tokens: Int[Tensor, " B"], pool: State, slots: Int[Tensor, " B"]
    ) -> Float[Tensor, "B V"]:
        """Select the states at `slots`, go forward, write back: see `PackedModel.step`."""
        check_step(tokens, pool, slots, self._vocab_size)
        logits, state = self._model(tokens[:, None], pool.select(slots), last_only=True)
        for name, tensor in pool.tensors.items():
            tensor.index_copy_(1, slots, state.tensors[name])
        return logits[:, -1]


def check_step(
    tokens: Int[Tensor, " B"], pool: State, slots: Int[Tensor, " B"], vocab_size: int
) -> None:
    """Refuse what is no step: every `PackedModel.step` begins with it.

    Raises:
        ValueError: If a token or a slot is not there, or a slot comes twice.
    """
    token_list, slot_list = tokens.tolist(), slots.tolist()
    if wrong := [token for token in token_list if not 0 <= token < vocab_size]:
        raise ValueError(f"`tokens` must be from 0 to {vocab_size - 1}, got {wrong[0]}")
    if wrong := [slot for slot in slot_list if not 0 <= slot < pool.batch_size]:
        raise ValueError(f"`slots` must be from 0 to {pool.batch_size - 1}, got {wrong[0]}")
    if len(set(slot_list)) < len(slot_list):
        raise ValueError(f"`slots` must differ from each other, got {slot_list}")
