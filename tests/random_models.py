"""Small models with random weights: a fake that is a real model."""

import torch
from torch import nn

from receptance.checkpoint import Adapter
from receptance.models import RWKV4, LowRank, LowRankChanges, RWKV4Config
from receptance.models.linear import Linear


def random_rwkv4(
    n_layer: int = 3,
    n_embd: int = 24,
    vocab_size: int = 40,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> RWKV4:
    """Return a model in which every parameter matters and the logits are of order 1 to 10.

    The authors' initialisation makes each block the identity, which would hide any mistake; here
    every weight is moved far from it, and no parameter is alike in two places.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, scale: float) -> torch.Tensor:
        return scale * torch.randn(like.shape, generator=generator, dtype=like.dtype)

    with torch.device("meta"):
        model = RWKV4(RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size))
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "emb.weight":
                parameter.copy_(normal(parameter, 1.0))
            elif name == "head.weight":
                parameter.copy_(normal(parameter, 3.0 * n_embd**-0.5))
            elif "time_mix" in name:  # trained mixes lie around [0, 1] and are not bound to it
                parameter.copy_(0.5 + normal(parameter, 0.5))
            elif "time_decay" in name:
                parameter.copy_(torch.linspace(-5, 2, n_embd) + normal(parameter, 0.5))
            elif "time_first" in name:
                parameter.copy_(-1.0 + normal(parameter, 0.7))
            elif parameter.ndim == 2:  # a matrix: the fan-in is its last axis
                parameter.copy_(normal(parameter, parameter.shape[1] ** -0.5))
            else:  # a LayerNorm's scale or its bias
                centre = 1.0 if name.endswith("weight") else 0.0
                parameter.copy_(centre + normal(parameter, 0.2))
    return model.to(dtype)


def with_matrices(model: RWKV4, dtype: torch.dtype) -> RWKV4:
    """Return the model with its matrices in `dtype` and all else as it was."""
    for module in model.modules():
        if isinstance(module, Linear | nn.Embedding):
            module.to(dtype)
    return model


def random_changes(model: RWKV4, rank: int = 2, *, seed: int = 0) -> LowRankChanges:
    """Return changes of all matrices of the layers, about as large as these."""
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, LowRank] = {}
    for name, module in model.blocks.named_modules(prefix="blocks"):
        if isinstance(module, Linear):
            n_out, n_in = module.weight.shape
            a = torch.randn(rank, n_in, generator=generator) * (n_in * rank) ** -0.5
            layers[name] = LowRank(a, torch.randn(n_out, rank, generator=generator))
    return LowRankChanges(layers)


def random_adapter(model: RWKV4, *, base: str | None = None, seed: int = 0) -> Adapter:
    """Return an adapter of `model`, to be saved: `random_changes` of it.

    Args:
        model: Plain, and not yet laid out to decode.
        base: The fingerprint that it names; None is that of `model`.
        seed: Of its numbers.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, (a, b) in random_changes(model, 2, seed=seed).layers.items():
        tensors |= {f"{name}.lora_a": a, f"{name}.lora_b": b / 3}
    return Adapter("rwkv4", base or model.fingerprint(), rank=2, alpha=6.0, tensors=tensors)


def random_tokens(batch: int, length: int, vocab_size: int = 40, *, seed: int = 1) -> torch.Tensor:
    """Return token ids, int64 [batch, length]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (batch, length), generator=generator)
