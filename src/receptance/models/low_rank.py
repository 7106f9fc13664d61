"""A change of low rank to some matrices, made while a model computes and not in its weights.

    y = x Wᵀ + (x Aᵀ) Bᵀ        A [rank, n_in], B [n_out, rank]

So models that differ by such changes share all other memory, and a rounded W, into which nothing
can be merged, takes one too. Source: Hu et al. 2021, "LoRA", arXiv:2106.09685.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from receptance.ops.half_linear import SQUARE, half_square
from receptance.ops.linear import linear
from receptance.ops.squared_relu import squared_relu

Model = TypeVar("Model", bound=nn.Module)


class LowRank(NamedTuple):
    """The change of one matrix, B A, with all factors in it."""

    a: Float[Tensor, "rank n_in"]
    b: Float[Tensor, "n_out rank"]


@dataclass(frozen=True, eq=False)
class LowRankChanges:
    """The changes that make another model of one. Two are the same if they are one object."""

    layers: Mapping[str, LowRank]
    """By the name of the layer, such as `blocks.0.att.key`. All in float32, and not modified."""


class ChangedLinear(nn.Module):
    """A linear layer and a change of it, which are not joined.

    The change is computed in float32, or in float64 where the product is, from the same x that
    enters the layer; it is added to the product as the layer rounded it, and the sum is rounded to
    the same dtype.
    """

    def __init__(self, layer: Any, change: LowRank) -> None:
        """Take a layer as it is.

        Args:
            layer: Any that stands in a model for a product with a matrix; shared, not copied.
            change: What is added.
        """
        super().__init__()
        self.layer = layer
        wide = torch.float64 if layer.dtype == torch.float64 else torch.float32
        self.change = LowRank(*(each.to(wide) for each in change))

    @property
    def dtype(self) -> torch.dtype:
        """That of what enters the layer."""
        return self.layer.dtype

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with W + B A, in the dtype of the layer's own."""
        return self._changed(self.layer(x), x.to(self.dtype))

    def of_squared_relu(self, k: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the product with max(k, 0)², in the same dtype."""
        y = self.layer.of_squared_relu(k)
        if self.dtype == torch.float16:
            return self._changed(y, half_square(k).float() * SQUARE)
        return self._changed(y, squared_relu(k.to(self.dtype)))

    def _changed(self, y: Tensor, x: Tensor) -> Tensor:
        a, b = self.change
        return (y.to(a.dtype) + linear(linear(x.to(a.dtype), a), b)).to(y.dtype)


def changed_model(model: Model, changes: LowRankChanges) -> Model:
    """Return a model that computes with some changes, and shares all its weights with `model`.

    Args:
        model: Left as it is. What is later put in the place of one of its layers is not seen.
        changes: Of layers that it has.
    """
    changed = _shallow_copy(model)
    for name, change in changes.layers.items():
        changed.set_submodule(name, ChangedLinear(model.get_submodule(name), change))
    return changed


class ChangedModels:
    """The models that changes make of one, each made once for as long as its changes are there.

    They are made anew where this is copied or sent elsewhere, since a changed model shares its
    weights with the one that it is of.
    """

    def __init__(self, model: nn.Module) -> None:
        """Take a model, none of whose layers is put in another's place from the first use on."""
        self._model = model
        self._changed: WeakKeyDictionary[LowRankChanges, nn.Module] = WeakKeyDictionary()

    def __getstate__(self) -> nn.Module:
        return self._model

    def __setstate__(self, model: nn.Module) -> None:
        self.__init__(model)

    def of(self, changes: LowRankChanges | None) -> Any:
        """Return the model with some changes; None is the model as it is."""
        if changes is None:
            return self._model
        if changes not in self._changed:
            self._changed[changes] = changed_model(self._model, changes)
        return self._changed[changes]


def require_unchanged(model: nn.Module, purpose: str) -> None:
    """Refuse a model that computes with changes, where its own weights are asked for.

    Args:
        model: Any.
        purpose: What is to be done with it, as in "to be saved".

    Raises:
        ValueError: If one of its layers has a change.
    """
    if any(isinstance(each, ChangedLinear) for each in model.modules()):
        raise ValueError(
            f"a model must have no changes beside its weights {purpose}, but this one has: an "
            "adapter that is not merged; take the model without it, or merge it into plain weights "
            "(`receptance convert --adapter`)"
        )


def _shallow_copy(module: Model) -> Model:
    """Return a module whose tensors are those of another, and whose submodules are like its."""
    twin = copy.copy(module)
    submodules = module._modules.items()
    twin._modules = {
        name: None if each is None else _shallow_copy(each) for name, each in submodules
    }
    return twin
