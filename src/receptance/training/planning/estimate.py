"""What a run will cost: parameters, products and memory, found without allocating a model.

Counts are exact. What a step keeps for its backward, and what is there besides at its peak, is
traced (`memory_trace`): it is what the code does and not what a formula once said.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from receptance.models import RWKV4, RWKV4Config, build
from receptance.ops.linear_cross_entropy.chunked import chunk_tokens
from receptance.ops.linear_cross_entropy.quantized import quantized_chunk_tokens
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.quantized_linear.straight_through import CHUNK_WEIGHTS
from receptance.training.config import RunConfig
from receptance.training.finetuning import build_trainable
from receptance.training.optimization import (
    FinetuneConfig,
    Objective,
    OptimizerConfig,
    build_optimizer,
)
from receptance.training.planning.memory_trace import MemoryTrace, trace_memory
from receptance.training.planning.plan import micro_batch_rows

FLOAT32_BYTES = 4
PARTS: tuple[str, ...] = (
    "embedding",
    "time mix, matrices",
    "time mix, vectors",
    "channel mix, matrices",
    "channel mix, vectors",
    "norms",
    "head",
)


class ParameterGroup(NamedTuple):
    """Parameters that the optimizer moves alike."""

    lr_multiplier: float
    weight_decay: float
    n_tensors: int
    n_parameters: int
    patterns: tuple[str, ...]
    """Their names, `*` for the number of a layer."""


class Kept(NamedTuple):
    """Bytes that a forward keeps for its backward."""

    of_weights: int
    """Copies of weights in the dtype of the products, and the head's gradient, which the loss
    computes ahead."""
    of_sequences: int
    """All that there is once for each sequence."""


def parameters_by_part(shape: RWKV4Config) -> dict[str, int]:
    """Return how many parameters the parts of a model have; they add up to all of it."""
    parts = dict.fromkeys(PARTS, 0)
    for name, parameter in _on_meta(shape).named_parameters():
        parts[_part(name, parameter)] += parameter.numel()
    return parts


def training_flops_per_token(config: RunConfig, shape: RWKV4Config) -> int:
    """Return the operations of all matrix products of a training step, for each of its tokens.

    Backward has twice those of the forward, and as many where the weights are frozen; with
    `checkpoint_layers` the layers' forward is computed once more. All else, WKV included, is not
    counted.
    """
    flops = (2 if config.finetune.is_partial else 3) * shape.flops_per_token
    if not config.training.checkpoint_layers:
        return flops
    return flops + shape.flops_per_token - 2 * shape.vocab_size * shape.n_embd


def trained_parameters(shape: RWKV4Config, finetune: FinetuneConfig) -> int:
    """Return how many parameters are trained, the frozen ones left out."""
    with torch.device("meta"):
        model = build_trainable(shape, 0.0, finetune)
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def parameter_groups(
    shape: RWKV4Config, config: OptimizerConfig, finetune: FinetuneConfig | None = None
) -> list[ParameterGroup]:
    """Return the optimizer's groups for a model, in its order."""
    with torch.device("meta"):
        model = build_trainable(shape, 0.0, finetune or FinetuneConfig())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = []
    for group in build_optimizer(model, config).param_groups:
        parameters = group["params"]
        patterns = [re.sub(r"\.\d+\.", ".*.", names[id(each)]) for each in parameters]
        groups.append(
            ParameterGroup(
                group["lr_multiplier"],
                group["weight_decay"],
                len(parameters),
                sum(each.numel() for each in parameters),
                tuple(dict.fromkeys(patterns)),
            )
        )
    return groups


def groups_sha256(groups: list[ParameterGroup]) -> str:
    """Return a hash of which parameters are moved how, to compare runs by."""
    lines = sorted(
        f"{pattern} {group.lr_multiplier} {group.weight_decay}"
        for group in groups
        for pattern in group.patterns
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def rank_memory(
    config: RunConfig,
    shape: RWKV4Config,
    world_size: int = 1,
    frozen: QuantizedFormat | None = None,
) -> dict[str, int]:
    """Return the bytes that the largest of `world_size` ranks needs, by part.

    The parts are not all at their largest at the same moment, so that tensors take up to a fifth
    less. The program itself, and what an allocator wastes between them, come on top.

    Args:
        config: The run.
        shape: Of its model.
        world_size: How many ranks share it.
        frozen: The format of matrices that are not trained; None if they are not rounded.

    Raises:
        ConfigError: If the ranks cannot share the batch.
    """
    data, training = config.data, config.training
    n_rows = max(micro_batch_rows(data, size, world_size) for size in data.batch_sizes)
    is_sharded = training.parallel == "fsdp2" and world_size > 1
    n_own = _own_parameters(shape, world_size) if is_sharded else shape.n_parameters
    n_trained = n_own
    if config.finetune.is_partial:
        n_trained = trained_parameters(shape, config.finetune)
        n_own += n_trained
    weight_bytes = FLOAT32_BYTES * n_own
    if frozen is not None:
        weight_bytes = _all_bytes(shape, config.finetune, frozen)
    root, layer = _kept_parts(config, shape, frozen)
    # With checkpointing only a layer's input is kept; the inside of one layer is there in backward.
    n_whole = 1 if training.checkpoint_layers else shape.n_layer
    n_inputs = shape.n_layer if training.checkpoint_layers else 0
    input_bytes = FLOAT32_BYTES * data.ctx_len * shape.n_embd

    memory = {
        "weights": weight_bytes,
        "moments": 2 * FLOAT32_BYTES * n_trained,
        "gradients": FLOAT32_BYTES * n_trained,
        "layers put together": _gathered_bytes(shape) if is_sharded else 0,
        "copies of weights": root.of_weights + n_whole * layer.of_weights,
        "activations": n_rows
        * (root.of_sequences + n_whole * layer.of_sequences + n_inputs * input_bytes),
        **_passing_part(config, shape, n_rows, frozen),
        "copy that is saved": 3 * FLOAT32_BYTES * n_trained * config.every.save_asynchronously,
    }
    return {part: n_bytes for part, n_bytes in memory.items() if n_bytes}


def trace_step(
    config: RunConfig, shape: RWKV4Config, n_rows: int, frozen: QuantizedFormat | None = None
) -> MemoryTrace:
    """Return what the forward and backward of `n_rows` sequences need.

    It takes no memory, and as long for a large model as for a small one of as many layers.
    """
    training = config.training
    size = (n_rows, config.data.ctx_len)
    arithmetic = _Arithmetic(training.precision, training.auxiliary_loss, training.dropout)
    has_resets = config.data.reset_at_documents
    return _trace(shape, size, arithmetic, has_resets, config.finetune, frozen)


class _Arithmetic(NamedTuple):
    precision: str
    auxiliary: float
    dropout: float


@lru_cache(maxsize=64)
def _trace(
    shape: RWKV4Config,
    size: tuple[int, int],
    arithmetic: _Arithmetic,
    has_resets: bool,
    finetune: FinetuneConfig,
    frozen: QuantizedFormat | None,
) -> MemoryTrace:
    precision, auxiliary, dropout = arithmetic

    def build_objective() -> Objective:
        model = build_trainable(shape, dropout, finetune, frozen)
        return Objective(model, auxiliary=auxiliary, precision=precision)

    def loss_of(objective: Objective) -> Tensor:
        tokens = torch.zeros(size, dtype=torch.long)
        loss, _ = objective(tokens, tokens, None, tokens == 0 if has_resets else None)
        return loss.total

    return trace_memory(build_objective, loss_of)


def _kept_parts(
    config: RunConfig, shape: RWKV4Config, frozen: QuantizedFormat | None
) -> tuple[Kept, Kept]:
    """Return what is kept beside the layers, and what a layer keeps.

    What is kept grows by the same with each layer and each sequence, so that four forwards of one
    or two of each tell it for any number.
    """
    kept = {}
    for n_layer in (1, 2):
        small = replace(shape, n_layer=n_layer)
        one, two = (trace_step(config, small, n_rows, frozen).kept_bytes for n_rows in (1, 2))
        kept[n_layer] = Kept(of_weights=2 * one - two, of_sequences=two - one)
    layer = Kept(*(two - one for one, two in zip(kept[1], kept[2], strict=True)))
    root = Kept(*(one - each for one, each in zip(kept[1], layer, strict=True)))
    return root, layer


def _passing_part(
    config: RunConfig, shape: RWKV4Config, n_rows: int, frozen: QuantizedFormat | None
) -> dict[str, int]:
    """Return what comes and goes beside what is kept: in a layer, or in the loss if that is more.

    It is the same for any number of layers. The two are not there at once.
    """
    trace = trace_step(config, replace(shape, n_layer=2), n_rows, frozen)
    product = torch.bfloat16 if config.training.precision == "bfloat16" else torch.float32
    device, of_batch = config.training.device_type, n_rows * config.data.ctx_len
    n_tokens = min(chunk_tokens(shape.vocab_size, product, device), of_batch)
    in_layer = trace.peak_bytes - trace.kept_bytes
    # A chunk's logits, the head, and a chunk's part of its gradient, which no trace sees.
    in_loss = product.itemsize * shape.vocab_size * (n_tokens + 2 * shape.n_embd)
    if frozen is not None:  # their gradient's factor, and of the head what is dequantized at a time
        n_tokens = min(quantized_chunk_tokens(shape.vocab_size, device), of_batch)
        in_loss = (FLOAT32_BYTES + product.itemsize) * shape.vocab_size * n_tokens
        in_loss += 4 * FLOAT32_BYTES * CHUNK_WEIGHTS
    if in_loss > in_layer:
        return {"logits of a chunk": in_loss}
    return {"inside a layer": in_layer}


def _own_parameters(shape: RWKV4Config, world_size: int) -> int:
    """Return how many parameters the first of FSDP2's ranks, which has the most, holds."""
    return sum(_own(tuple(each.shape), world_size) for each in _on_meta(shape).parameters())


def _own(size: tuple[int, ...], world_size: int) -> int:
    """Return a rank's part of a tensor, cut along its first axis that is longer than 1.

    Axes but the very first are cut into equal parts only.
    """
    axis = next((axis for axis, length in enumerate(size) if length > 1), 0)
    if axis and size[axis] % world_size:
        return math.prod(size)
    return math.prod(size) // size[axis] * -(-size[axis] // world_size)


def _all_bytes(shape: RWKV4Config, finetune: FinetuneConfig, frozen: QuantizedFormat) -> int:
    """Return the bytes of a model with rounded matrices, and of what is trained beside them."""
    with torch.device("meta"):
        model = build_trainable(shape, 0.0, finetune, frozen)
    return sum(each.nbytes for each in model.state_dict().values())


def _gathered_bytes(shape: RWKV4Config) -> int:
    """Return what FSDP2 puts together beside the parts that a rank has.

    The embedding, the last norm and the head with their gradients are whole for most of a step. Of
    the layers the one at work and the next are, and the gradient of one.
    """
    in_layers: Counter[bool] = Counter()
    for name, parameter in _on_meta(shape).named_parameters():
        in_layers[name.startswith("blocks.")] += parameter.numel()
    n_layer_parameters = -(-in_layers[True] // shape.n_layer)
    return FLOAT32_BYTES * (2 * in_layers[False] + 3 * n_layer_parameters)


def _on_meta(shape: RWKV4Config) -> RWKV4:
    with torch.device("meta"):
        return build(shape)


def _part(name: str, parameter: Tensor) -> str:
    """Return the part of a model that a parameter belongs to."""
    whole: Mapping[str, str] = {"emb.weight": "embedding", "head.weight": "head"}
    if name in whole:
        return whole[name]
    if ".ln" in name or name.startswith("ln"):
        return "norms"
    mix = "time mix" if ".att." in name else "channel mix"
    return f"{mix}, {'matrices' if parameter.ndim == 2 else 'vectors'}"
