"""Random weights of the decoding step, one set for each kind of matrix, and a pool of states."""

import torch
from torch import Tensor

from receptance.ops.quantized_linear import QuantizedFormat, pack_embedding, pack_weight
from receptance.ops.rwkv4_step import RWKV4LayerWeights, RWKV4Weights

L, C, V, SLOTS = 2, 48, 19, 20
INT8 = QuantizedFormat(bits=8, group_size=32)
INT4 = QuantizedFormat(bits=4, group_size=64, has_offset=True)
KINDS = (torch.float32, torch.bfloat16, INT8, INT4)
Kind = torch.dtype | QuantizedFormat


def make_weights(kind: Kind, n_layer: int = L) -> RWKV4Weights:
    """Return weights of which each matters, with matrices of one kind."""
    generator = torch.Generator().manual_seed(0)

    def vector(centre: float = 0.0) -> Tensor:
        return centre + 0.3 * torch.randn(C, generator=generator)

    def matrix(n_out: int, n_in: int, *, is_embedding: bool = False) -> Tensor:
        size = 1.0 if is_embedding else n_in**-0.5
        if isinstance(kind, torch.dtype):
            return (size * torch.randn(n_out, n_in, generator=generator)).to(kind)
        least, zero = 2 - kind.bits // 4, kind.zero_level
        levels = torch.randint(least, 2 * zero, (n_out, n_in), generator=generator)
        scales = size / zero * (1 + torch.rand(n_out, kind.n_groups(n_in), generator=generator))
        offsets = 0.1 * scales if kind.has_offset else None
        pack = pack_embedding if is_embedding else pack_weight
        return pack(levels.to(torch.uint8), scales, offsets, kind).data

    def layer() -> RWKV4LayerWeights:
        norms = [vector(1), vector(), vector(1), vector()]
        decay_and_mixes = [vector(-0.8), vector(), *(vector(0.5) for _ in range(5))]
        matrices = [*(matrix(C, C) for _ in range(4)), matrix(4 * C, C), matrix(C, C)]
        return RWKV4LayerWeights(*[*norms, *decay_and_mixes, *matrices, matrix(C, 4 * C)])

    embedding, head = matrix(V, C, is_embedding=True), matrix(V, C)
    norms = (vector(1), vector(), vector(1), vector())
    return RWKV4Weights(embedding, head, *norms, layers=[layer() for _ in range(n_layer)])


def make_pool(n_slots: int = SLOTS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    pool = [torch.randn(L, n_slots, C, generator=generator) for _ in range(5)]
    pool[3] = pool[3].abs() + 0.5  # the denominator
    return pool


def numbers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
