"""The weights that language models share, and what is made of them once for all."""

from functools import cached_property

from receptance.models import RWKV4, ChangedModels, LowRankChanges, PackedModel


class SharedWeights:
    """A model, read from by the language models that differ in an adapter or in their start."""

    def __init__(self, model: RWKV4, *, skips_zeros: bool) -> None:
        """Take a model.

        Args:
            model: It must not be changed afterwards.
            skips_zeros: Whether it may be laid out anew to decode faster: see `RWKV4.pack`.
        """
        self.model = model
        self._skips_zeros = skips_zeros
        self._changed = ChangedModels(model)

    @cached_property
    def packed(self) -> PackedModel:
        """The model made ready to decode; the first use makes it."""
        return self.model.pack(skips_zeros=self._skips_zeros)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the weights; the first use reads all of them."""
        return self.model.fingerprint()

    def changed(self, changes: LowRankChanges) -> RWKV4:
        """Return the model with some changes, made once for as long as these are there."""
        # Packing may put layers in the place of others, which a model made before does not see.
        _ = self.packed
        return self._changed.of(changes)
