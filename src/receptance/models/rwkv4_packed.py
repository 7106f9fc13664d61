"""RWKV-4 made ready to decode: its weights gathered once for a step on the CPU or on a GPU."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from receptance.models.linear import ColumnLinear, Linear
from receptance.models.low_rank import LowRankChanges, require_unchanged
from receptance.models.packed import PackedForward, PackedModel, check_step, join_rows
from receptance.models.rwkv4_packed_triton import PackedTritonRWKV4
from receptance.models.state import State
from receptance.ops.memory import page_out
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.rwkv4_step import (
    CHANGEABLE,
    RWKV4ChangesPlan,
    RWKV4LayerWeights,
    RWKV4Plan,
    RWKV4TritonStep,
    RWKV4Weights,
    native_obstacle,
    rwkv4_changes_plan,
    rwkv4_plan,
    rwkv4_step,
    triton_step_obstacle,
)

if TYPE_CHECKING:
    from receptance.models.rwkv4 import RWKV4


# In the order of the step.
_LINEARS = (
    *("att.key", "att.value", "att.receptance", "att.output"),
    *("ffn.key", "ffn.receptance", "ffn.value"),
)


class PackedRWKV4:
    """The step in one native call, in which each sequence may have its own changes.

    Only a sequence with changes of other matrices than the layers' is fed to the model's forward.
    """

    def __init__(self, plan: RWKV4Plan, model: "RWKV4") -> None:
        """Follow a plan.

        Args:
            plan: The weights.
            model: The same, as a model.
        """
        self._plan = plan
        self._vocab_size = model.config.vocab_size
        self._forward = PackedForward(model, self._vocab_size)
        self._places = {
            f"blocks.{layer}.{name}": (layer, matrix)
            for layer in range(model.config.n_layer)
            for name, matrix in zip(_LINEARS, CHANGEABLE, strict=True)
        }
        self._planned: WeakKeyDictionary[LowRankChanges, RWKV4ChangesPlan] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is planned again where it is needed: plans hold addresses."""
        return {**vars(self), "_planned": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_planned": WeakKeyDictionary()})

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
        elsewhere = [row for row, each in enumerate(changes) if not self._serves(each)]
        if not elsewhere:
            plans = [self._plan_of(each) for each in changes]
            return rwkv4_step(self._plan, tokens, vectors, slots, plans)
        here = [row for row in range(len(tokens)) if row not in elsewhere]
        plans = [self._plan_of(changes[row]) for row in here]
        ours = rwkv4_step(self._plan, tokens[here], vectors, slots[here], plans)
        others = [changes[row] for row in elsewhere]
        theirs = self._forward.step(tokens[elsewhere], pool, slots[elsewhere], others)
        return join_rows([here, elsewhere], [ours, theirs])

    def _serves(self, changes: LowRankChanges | None) -> bool:
        return changes is None or changes.layers.keys() <= self._places.keys()

    def _plan_of(self, changes: LowRankChanges | None) -> RWKV4ChangesPlan | None:
        if changes is None:
            return None
        if changes not in self._planned:
            factors = {
                self._places[name]: (each.a, each.b) for name, each in changes.layers.items()
            }
            self._planned[changes] = rwkv4_changes_plan(self._plan, factors)
        return self._planned[changes]


def pack_rwkv4(model: "RWKV4", *, skips_zeros: bool = False) -> PackedModel:
    """Return what decodes with a model's weights: the native step, Triton's, or its own forward.

    Args:
        model: The model; its values of channel mixes are laid by columns.
        skips_zeros: Whether they are; then columns that meet only 0 are not read. Only the native
            step knows how to.

    Raises:
        ValueError: If the model has changes beside its weights, which a step takes for itself.
    """
    require_unchanged(model, "to be packed")
    weights, formats = _gather(model)
    forward = PackedForward(model, model.config.vocab_size)
    if len(formats) > 1:
        return forward
    sizes: dict[str, Any] = {
        "vocab_size": model.config.vocab_size,
        "eps": model.ln_out.eps,
        "format": next(iter(formats), None),
    }
    if native_obstacle(weights) is not None:
        if triton_step_obstacle(weights) is not None:
            return forward
        return PackedTritonRWKV4(RWKV4TritonStep(weights, **sizes), model)
    if skips_zeros:
        del weights  # lest each matrix be kept beside its columns
        _lay_values_by_columns(model)
        weights, _ = _gather(model)
    return PackedRWKV4(rwkv4_plan(weights, **sizes), model)


def _lay_values_by_columns(model: "RWKV4") -> None:
    """Lay the value matrices of channel mixes by columns, where they are not quantized.

    Their inputs are squared ReLUs, nine in ten of which are 0 in a trained model. There is no
    second copy: the memory of the first one is given back.
    """
    blocks: list[Any] = [*model.blocks]
    plain = [block.ffn for block in blocks if isinstance(block.ffn.value, Linear)]
    for ffn in plain:
        weight = ffn.value.weight.detach()
        ffn.value = ColumnLinear(weight)
        page_out(weight)


def _gather(model: "RWKV4") -> tuple[RWKV4Weights, set[QuantizedFormat]]:
    """Return the weights in the step's order, and the formats of those that are quantized."""
    formats: set[QuantizedFormat] = set()

    def matrix(module: Any) -> Tensor:
        if isinstance(module, nn.Embedding):
            return module.weight.detach()
        weight = module.packed_weight()
        if isinstance(weight, Tensor):
            return weight
        formats.add(weight.format)
        return weight.data

    first: Any = model.blocks[0]
    ln0 = (None, None)
    if first.ln0 is not None:
        ln0 = (first.ln0.weight.detach(), first.ln0.bias.detach())
    weights = RWKV4Weights(
        matrix(model.emb),
        matrix(model.head),
        *ln0,
        model.ln_out.weight.detach(),
        model.ln_out.bias.detach(),
        layers=[_gather_layer(block, matrix) for block in model.blocks],
    )
    return weights, formats


def _gather_layer(block: Any, matrix: Callable[[Any], Tensor]) -> RWKV4LayerWeights:
    """Return the weights of a layer, with the decay as its logarithm."""
    att, ffn = block.att, block.ffn
    vectors = [
        *(block.ln1.weight, block.ln1.bias, block.ln2.weight, block.ln2.bias),
        *(-torch.exp(att.time_decay), att.time_first),
        *(att.time_mix_k, att.time_mix_v, att.time_mix_r, ffn.time_mix_k, ffn.time_mix_r),
    ]
    linears = [block.get_submodule(name) for name in _LINEARS]
    return RWKV4LayerWeights(
        *(vector.detach().flatten() for vector in vectors), *(matrix(each) for each in linears)
    )
