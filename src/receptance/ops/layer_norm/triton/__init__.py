"""`layer_norm` on a GPU, in Triton: one launch forward, one and a sum backward.

`kernels.py` says what they read and write. Forward saves x, weight, and the mean and the reciprocal
deviation of each row.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.registration import register_backward, register_forward
from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

MOST_CHANNELS = 16384
"""A program holds a row, and backward six of them, in registers."""

# Programs that are wanted at least, some for each multiprocessor of a large GPU; what is more is
# given to them as more rows each. One of backward leaves two rows of sums behind.
_PROGRAMS = 1024
_CHANNELS_OF_WARP = 256


class Launch(NamedTuple):
    """How the kernels are launched."""

    rows: int
    """Neighbouring rows that a program walks over."""
    programs: int
    block: int
    """A power of 2, at least the channels."""
    warps: int


def launch(N: int, C: int) -> Launch:
    """Return how to launch a kernel for rows [N, C]."""
    rows = max(-(-N // _PROGRAMS), 1)
    block = 1 << max(C - 1, 15).bit_length()
    warps = min(max(block // _CHANNELS_OF_WARP, 1), 16)
    return Launch(rows, -(-N // rows), block, warps)


def layer_norm_triton(
    x: Float[Tensor, "*batch C"], weight: Float[Tensor, " C"], bias: Float[Tensor, " C"], eps: float
) -> Float[Tensor, "*batch C"]:
    """Return the rows normalised; see `receptance.ops.layer_norm.layer_norm`."""
    return torch.ops.receptance.layer_norm_triton(x, weight, bias, eps)[0]


def layer_norm_obstacle(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> str | None:  # noqa: ARG001
    """Return why Triton cannot run these tensors, as a clause, or None if it can."""
    if not weight.dtype == bias.dtype == x.dtype:
        return f"it serves tensors of one dtype, and `x`, `weight` and `bias` are {x.dtype}, " + (
            f"{weight.dtype} and {bias.dtype}"
        )
    if x.shape[-1] > MOST_CHANNELS:
        return f"it serves up to {MOST_CHANNELS} channels, and there are {x.shape[-1]}"
    return triton_obstacle(x, weight, bias)


@torch.library.custom_op("receptance::layer_norm_triton", mutates_args=())
def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the result, and the mean and reciprocal deviation of each row."""
    out = x.new_empty(x.shape)
    mean, rstd = (x.new_empty(x.shape[:-1], dtype=torch.float32) for _ in range(2))
    if x.numel() == 0:
        return out, mean.zero_(), rstd.zero_()
    C = x.shape[-1]
    form = launch(mean.numel(), C)
    with on_device_of(x):
        kernels_of(__name__).forward[(form.programs,)](
            *(each.contiguous() for each in (x, weight, bias)),
            *(out, mean, rstd, eps, mean.numel(), C, form.rows),
            BLOCK=form.block,
            num_warps=form.warps,
        )
    return out, mean, rstd


@torch.library.custom_op("receptance::layer_norm_backward_triton", mutates_args=())
def _backward(
    x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    grad_x = x.new_empty(x.shape)
    if x.numel() == 0:
        return grad_x, torch.zeros_like(weight), torch.zeros_like(weight)
    C = x.shape[-1]
    form = launch(mean.numel(), C)
    sums = x.new_empty((form.programs, 2, C), dtype=torch.float32)
    with on_device_of(x):
        kernels_of(__name__).backward[(form.programs,)](
            *(each.contiguous() for each in (x, weight, mean, rstd, grad)),
            *(grad_x, sums, mean.numel(), C, form.rows),
            BLOCK=form.block,
            num_warps=form.warps,
        )
    grad_weight, grad_bias = sums.sum(dim=0).to(weight.dtype)
    return grad_x, grad_weight.clone(), grad_bias.clone()


def _fake_forward(
    x: Tensor,
    weight: Tensor,  # noqa: ARG001 (the schema's arguments)
    bias: Tensor,  # noqa: ARG001
    eps: float,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (x.new_empty(x.shape[:-1], dtype=torch.float32) for _ in range(2))
    return x.new_empty(x.shape), mean, rstd


def _fake_backward(
    x: Tensor,
    weight: Tensor,
    mean: Tensor,  # noqa: ARG001 (the schema's arguments)
    rstd: Tensor,  # noqa: ARG001
    grad: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _, _ = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, mean, rstd)


def _differentiate(
    ctx: Any, grad: Tensor | None, _mean: None, _rstd: None
) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    found = torch.ops.receptance.layer_norm_backward_triton(*ctx.saved_tensors, grad)
    return (*found, None)


register_forward("layer_norm_triton", _fake_forward, _save, _differentiate)
register_backward("layer_norm_backward_triton", _fake_backward, of="Triton layer_norm")
