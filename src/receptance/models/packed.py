"""A model made ready to decode: one token to each of many sequences, in one call."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from receptance.models.low_rank import ChangedModels, LowRankChanges
from receptance.models.state import State
from receptance.ops.device import upload


@runtime_checkable
class PackedModel(Protocol):
    """What decoding needs of a model: a step. `pack()` of a model gives it."""

    def step(
        self,
        tokens: Int[Tensor, " B"],
        pool: State,
        slots: Int[Tensor, " B"],
        changes: Sequence[LowRankChanges | None] = (),
    ) -> Float[Tensor, "B V"]:
        """Feed one token to each of B sequences and return the logits of the next ones.

        Args:
            tokens: One for each sequence, on the CPU: elsewhere they would have to be waited for,
                to check them.
            pool: The states of many sequences, of which those at `slots` change in place. No
                other is read.
            slots: Which sequence of `pool` each token belongs to, on the CPU as well; no two are
                the same.
            changes: Which changes of the model each sequence is fed to; None is the model as it
                is, and so is an empty sequence for all.

        Returns:
            Logits in float32 (float64 in a float64 model). A row does not depend on the others.

        Raises:
            ValueError: If a token or a slot is not there, a slot comes twice, or there are not as
                many `changes` as tokens.
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
        self._models = ChangedModels(model)
        self._vocab_size = vocab_size

    @torch.no_grad()
    def step(
        self,
        tokens: Int[Tensor, " B"],
        pool: State,
        slots: Int[Tensor, " B"],
        changes: Sequence[LowRankChanges | None] = (),
    ) -> Float[Tensor, "B V"]:
        """Select the states at `slots`, go forward, write back: see `PackedModel.step`.

        Sequences of one model go forward together, and those of another after them.
        """
        check_step(tokens, pool, slots, self._vocab_size, changes)
        changes = changes or [None] * len(tokens)
        rows_of = {
            each: [i for i, other in enumerate(changes) if other is each] for each in changes
        }
        of_models = [self._step(each, tokens, pool, slots, rows) for each, rows in rows_of.items()]
        return join_rows([*rows_of.values()], of_models)

    def _step(
        self,
        changes: LowRankChanges | None,
        tokens: Int[Tensor, " B"],
        pool: State,
        slots: Int[Tensor, " B"],
        rows: Sequence[int],
    ) -> Float[Tensor, "n V"]:
        """Feed the tokens at some rows to the model with some changes."""
        device = next(iter(pool.tensors.values())).device
        fed, at = tokens[rows], slots[rows]
        logits, state = self._models.of(changes)(
            upload(fed[:, None], device), pool.select(at), last_only=True
        )
        at = upload(at, device)
        for name, tensor in pool.tensors.items():
            tensor.index_copy_(1, at, state.tensors[name])
        return logits[:, -1]


def join_rows(
    rows: Sequence[Sequence[int]], parts: Sequence[Float[Tensor, "_ V"]]
) -> Float[Tensor, "B V"]:
    """Return the logits of sequences that were fed in parts, in the order of the sequences.

    Args:
        rows: Which sequences are in each part; together all of them, each once.
        parts: Their logits.
    """
    if len(parts) == 1:
        return parts[0]
    logits = torch.cat([*parts])
    order = torch.tensor([row for part in rows for row in part]).argsort()
    return logits[upload(order, logits.device)]


def check_step(
    tokens: Int[Tensor, " B"],
    pool: State,
    slots: Int[Tensor, " B"],
    vocab_size: int,
    changes: Sequence[LowRankChanges | None] = (),
) -> None:
    """Refuse what is no step: every `PackedModel.step` begins with it.

    Raises:
        ValueError: If a token or a slot is not there, a slot comes twice, or there are not as many
            `changes` as tokens.
    """
    token_list, slot_list = tokens.tolist(), slots.tolist()
    if wrong := [token for token in token_list if not 0 <= token < vocab_size]:
        raise ValueError(f"`tokens` must be from 0 to {vocab_size - 1}, got {wrong[0]}")
    if wrong := [slot for slot in slot_list if not 0 <= slot < pool.batch_size]:
        raise ValueError(f"`slots` must be from 0 to {pool.batch_size - 1}, got {wrong[0]}")
    if len(set(slot_list)) < len(slot_list):
        raise ValueError(f"`slots` must differ from each other, got {slot_list}")
    if changes and len(changes) != len(token_list):
        raise ValueError(
            f"`changes` must be one for each of {len(token_list)} tokens, got {len(changes)}"
        )
