"""What the engine does with tensors: prompts and single tokens go through the model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.inference.state_pool import StatePool
from receptance.models import RWKV4, PackedModel


class Runner:
    """A model that changes the states of a pool. It decides nothing."""

    def __init__(self, model: RWKV4, packed: PackedModel, pool: StatePool) -> None:
        """Join them.

        Args:
            model: Reads prompts.
            packed: The same model, for single tokens.
            pool: Where the states are.
        """
        self.pool = pool
        self._model = model
        self._packed = packed

    @torch.inference_mode()
    def prefill(self, slot: int, tokens: Sequence[int]) -> Float[Tensor, " V"]:
        """Feed a chunk of a prompt to one sequence and return the logits after it.

        Args:
            slot: Where its state is.
            tokens: At least one, all of them in the vocabulary.
        """
        chunk = torch.tensor([tokens], device=self._model.emb.weight.device)
        logits, state = self._model(chunk, self.pool.read(slot), last_only=True)
        self.pool.write(slot, state)
        return logits[0, -1]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        """Feed one token to each of B sequences and return the logits after them.

        Args:
            slots: Where their states are; no two are the same.
            tokens: In the order of `slots`.
        """
        device = self._model.emb.weight.device
        index, fed = (torch.tensor(each, device=device) for each in (slots, tokens))
        return self._packed.step(fed, self.pool.state, index)
