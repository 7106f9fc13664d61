"""`half_square` on a GPU, in Triton; `kernels.py` says what it reads and writes."""

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from receptance.ops.half_linear.reference import ROOT
from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

BLOCK = 1024
"""Numbers of a program: eight a thread, at Triton's 128 threads."""


def half_square_triton(k: Float[Tensor, "*shape"]) -> Float16[Tensor, "*shape"]:
    """Return (max(k, 0) / 16)²; see `receptance.ops.half_linear.half_square`."""
    return torch.ops.receptance.half_square_triton(k)


def triton_square_obstacle(k: Tensor) -> str | None:
    """Return why Triton cannot run this tensor, as a clause, or None if it can."""
    if k.requires_grad and torch.is_grad_enabled():
        return "it has no gradient, and one is wanted; use torch.no_grad()"
    return triton_obstacle(k)


@torch.library.custom_op("receptance::half_square_triton", mutates_args=())
def _square(k: Tensor) -> Tensor:
    k = k.contiguous()
    out = k.new_empty(k.shape, dtype=torch.float16)
    n = k.numel()
    if n > 0:
        with on_device_of(k):
            kernels_of(__name__).half_square[(-(-n // BLOCK),)](k, out, n, ROOT=ROOT, BLOCK=BLOCK)
    return out


@_square.register_fake
def _fake_square(k: Tensor) -> Tensor:
    return k.new_empty(k.shape, dtype=torch.float16)
