"""`norm_shift_mix` on a GPU, in Triton: one launch forward, two or three and a sum backward.

`kernels.py` says what they read and write.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.norm_shift_mix.gradients import register
from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle

MOST_CHANNELS = 16384
"""A program holds a row, and backward a few of them, in registers."""

MOST_FUSED = 2048
"""Channels up to which a program of backward has the sums for the vectors in registers as well, ten
rows in all. For wider rows, whose program would have more than there are, a second launch has them,
by blocks of channels: it reads x and the gradients once more."""

# Programs that are wanted at least, some for each multiprocessor of a large GPU; what is more is
# given to them as more tokens each. A program reads one row more than its tokens, and one of
# backward leaves some rows of sums behind.
_PROGRAMS_FORWARD = 4096
_PROGRAMS_BACKWARD = 1024
_CHANNELS_OF_WARP = 256

# What a program of the second launch has at a time, eight numbers a thread and array, and how many
# programs are wanted.
SUMS = {"ROWS": 8, "BLOCK": 128}
_PROGRAMS_SUMS = 4096


class Launch(NamedTuple):
    """How a kernel that holds rows is launched."""

    tokens: int
    """Neighbouring tokens of a sequence that a program walks over."""
    chunks: int
    """Programs of a sequence."""
    block: int
    """A power of 2, at least the channels."""
    warps: int


def launch(B: int, T: int, C: int, *, is_backward: bool) -> Launch:
    """Return how to launch a kernel for inputs [B, T, C]."""
    programs = _PROGRAMS_BACKWARD if is_backward else _PROGRAMS_FORWARD
    tokens = max(-(-B * T // programs), 1)
    block = 1 << max(C - 1, 15).bit_length()
    warps = min(max(block // _CHANNELS_OF_WARP, 1), 16)
    return Launch(tokens, -(-T // tokens), block, warps)


def tokens_of_sums(B: int, T: int, C: int) -> int:
    """Return how many tokens of a sequence a program of the second launch sums up."""
    blocks = -(-C // SUMS["BLOCK"])
    return min(-(-B * T * blocks // _PROGRAMS_SUMS), T)


def norm_shift_mix_triton(
    x: Float[Tensor, "B T C"],
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    mixes: tuple[Float[Tensor, " C"], ...],
    x_last: Float[Tensor, "B C"],
    resets: Bool[Tensor, "B T"] | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[tuple[Float[Tensor, "B T C"], ...], Float[Tensor, "B C"]]:
    """Return the mixed and the normalised last token; see `receptance.ops.norm_shift_mix`."""
    mixed, last, _, _ = torch.ops.receptance.norm_shift_mix_triton(
        x, weight, bias, list(mixes), x_last, resets, eps, dtype
    )
    return tuple(mixed), last


def norm_shift_mix_obstacle(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixes: tuple[Tensor, ...],
    x_last: Tensor,
    resets: Tensor | None,
    eps: float,  # noqa: ARG001 (the arguments of every implementation)
    dtype: torch.dtype,
) -> str | None:
    """Return why Triton cannot run these tensors, as a clause, or None if it can."""
    if len(mixes) not in (2, 3):
        return f"it serves 2 or 3 mixes, and there are {len(mixes)}"
    if x.shape[-1] > MOST_CHANNELS:
        return f"it serves up to {MOST_CHANNELS} channels, and there are {x.shape[-1]}"
    if x.dtype != torch.float32:
        return f"it serves a stream of float32, and this one is {x.dtype}"
    flags = [] if resets is None else [resets]
    like_mixed = x.new_empty(0, dtype=dtype)
    return triton_obstacle(x, weight, bias, *mixes, x_last, *flags, like_mixed)


@torch.library.custom_op("receptance::norm_shift_mix_triton", mutates_args=())
def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixes: list[Tensor],
    x_last: Tensor,
    resets: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Return the mixed, the last token, and the mean and reciprocal deviation of each token."""
    B, T, C = x.shape
    mixed = [x.new_empty(x.shape, dtype=dtype) for _ in mixes]
    last, mean, rstd = (x.new_empty(shape) for shape in (x_last.shape, (B, T), (B, T)))
    if x.numel() == 0:
        return mixed, last.copy_(x_last), mean, rstd
    dense = [each.contiguous() for each in (x, weight, bias, *_three(mixes), x_last)]
    form = launch(B, T, C, is_backward=False)
    with on_device_of(x):
        kernels_of(__name__).forward[(B * form.chunks,)](
            *dense,
            x if resets is None else resets.contiguous(),
            *_three(mixed),
            *(last, mean, rstd, eps, T, C, form.tokens),
            HAS_RESETS=resets is not None,
            HAS_THIRD=len(mixes) > 2,
            BLOCK=form.block,
            num_warps=form.warps,
        )
    return mixed, last, mean, rstd


@torch.library.custom_op("receptance::norm_shift_mix_backward_triton", mutates_args=())
def _backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixes: list[Tensor],
    x_last: Tensor,
    resets: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    grad_mixed: list[Tensor],
    grad_last: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
    """Return the gradients of x, weight, bias, the mixes and x_last."""
    B, T, C = x.shape
    if x.numel() == 0:
        grad_x_last = torch.zeros_like(x_last) if grad_last is None else grad_last.clone()
        zeros = [torch.zeros_like(each) for each in (x, weight, bias, *mixes)]
        return zeros[0], zeros[1], zeros[2], zeros[3:], grad_x_last
    dense = [each.contiguous() for each in (x, weight, bias, *_three(mixes), x_last)]
    form = launch(B, T, C, is_backward=True)
    grad_x, grad_x_last = x.new_empty(x.shape), x_last.new_empty(x_last.shape)
    is_fused = C <= MOST_FUSED
    tokens = form.tokens if is_fused else tokens_of_sums(B, T, C)
    sums = x.new_empty((-(-T // tokens) * B, 2 + len(mixes), C))
    flags = x if resets is None else resets.contiguous()
    dense_grads = _three([each.contiguous() for each in grad_mixed])
    like_last = x if grad_last is None else grad_last.contiguous()
    forms = {"HAS_RESETS": resets is not None, "HAS_THIRD": len(mixes) > 2}
    held = {"BLOCK": form.block, "num_warps": form.warps}
    kernels = kernels_of(__name__)
    with on_device_of(x):
        kernels.backward_of_last[(B,)](
            *(*dense[3:6], flags, *dense_grads, grad_x_last, T, C), **forms, **held
        )
        kernels.backward[(B * form.chunks,)](
            *(*dense, flags, mean, rstd, *dense_grads, like_last),
            *(grad_x, sums, T, C, form.tokens),
            HAS_LAST=grad_last is not None,
            WANTS_SUMS=is_fused,
            **forms,
            **held,
        )
        if not is_fused:
            kernels.sum_channels[(len(sums), -(-C // SUMS["BLOCK"]))](
                *(*dense, flags, mean, rstd, *dense_grads, like_last, sums, T, C, tokens),
                HAS_LAST=grad_last is not None,
                **forms,
                **SUMS,
            )
    grad_weight, grad_bias, *grad_mixes = (each.clone() for each in sums.sum(dim=0))
    return grad_x, grad_weight, grad_bias, grad_mixes, grad_x_last


def _three(tensors: list[Tensor]) -> list[Tensor]:
    """Return three addresses, of which the last is not read where there are two."""
    return [*tensors, tensors[-1]][:3]


register("norm_shift_mix_triton", "norm_shift_mix_backward_triton", of="Triton norm_shift_mix")
