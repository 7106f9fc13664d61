"""What the engine does with tensors: prompts and single tokens go through the model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.inference.state_pool import StatePool
from receptance.models import RWKV4, LowRankChanges, PackedModel, RWKV4State
from receptance.ops.device import upload


class Runner:
    """Changes the states of a pool by a model, and by those that differ from it by low ranks.

    It decides nothing.
    """

    def __init__(self, packed: PackedModel, pool: StatePool) -> None:
        """Join them.

        Args:
            packed: The model, for single tokens.
            pool: Where the states are.
        """
        self.pool = pool
        self._packed = packed
        self._device = next(iter(pool.state.tensors.values())).device

    @torch.inference_mode()
    def prefill(self, slot: int, tokens: Sequence[int], model: RWKV4) -> Float[Tensor, " V"]:
        """Feed a chunk of a prompt to one sequence and return the logits after it.

        Args:
            slot: Where its state is.
            tokens: At least one, all of them in the vocabulary.
            model: What reads them: the model as it is, or with changes.
        """
        chunk = upload(torch.tensor([tokens]), self._device)
        logits, state = model(chunk, self.pool.read(slot), last_only=True)
        self.pool.write(slot, state)
        return logits[0, -1]

    @torch.inference_mode()
    def prefill_features(
        self, slot: int, tokens: Sequence[int], model: RWKV4
    ) -> Float[Tensor, "T C"]:
        """Feed a chunk as `prefill` does, and return what the model's head sees at each token.

        Args:
            slot: As for `prefill`, and so are the others.
            tokens: T of them.
            model: What reads them.
        """
        chunk = upload(torch.tensor([tokens]), self._device)
        before = self.pool.read(slot)
        assert isinstance(before, RWKV4State)
        features, state = model.features(chunk, before)
        self.pool.write(slot, state)
        return features[0]

    @torch.inference_mode()
    def head(self, features: Float[Tensor, "T C"], model: RWKV4) -> Float[Tensor, "T V"]:
        """Return the logits that follow from features, as the forward of `model` computes them.

        Args:
            features: What `prefill_features` gave, or some rows of it.
            model: The same.
        """
        return model.head(features[None])[0].to(features.dtype)

    @torch.inference_mode()
    def decode(
        self,
        slots: Sequence[int],
        tokens: Sequence[int],
        changes: Sequence[LowRankChanges | None],
    ) -> Float[Tensor, "B V"]:
        """Feed one token to each of B sequences and return the logits after them.

        Args:
            slots: Where their states are; no two are the same.
            tokens: In the order of `slots`.
            changes: Of the model, for each of them.
        """
        theirs = changes if any(changes) else ()
        index, fed = torch.tensor(slots), torch.tensor(tokens)
        return self._packed.step(fed, self.pool.state, index, theirs)
