"""`wkv4` on a GPU, in Triton: the ops `receptance::wkv4_triton` and `…_triton_backward`.

A program takes a block of channels of one sequence from its first token to its last. Where a row
has few channels or many tokens, and so too few programs, the tokens are cut into segments as well:
one launch finds what each segment does to the state, one carries the state from segment to segment,
and the third is the same as without. That reads k and v twice, and leaves nothing idle.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from receptance.ops.triton import kernels_of, on_device_of, triton_obstacle
from receptance.ops.wkv4.gradients import register
from receptance.ops.wkv4.reference import WKV4State

# Tokens between two borders, which are what a program has in registers at once: with 32 the way
# back needs more registers than a thread has. A program is one warp with a channel for each thread,
# and AMD's have 64.
TILE = 16
BLOCK_C = 32 if torch.version.hip is None else 64

SIZES = {"TILE": TILE, "BLOCK_C": BLOCK_C, "num_warps": 1}

# A row of the batch is cut until it has as many programs as the first, and into segments no longer
# than the second, but none shorter than the third. Chosen by reasoning, not measured on a GPU.
# The batch does not count, so that a row's bits do not depend on what runs beside it.
PROGRAMS_OF_A_ROW = 128
LONGEST_SEGMENT = 4096
SHORTEST_SEGMENT = 256


class Cut(NamedTuple):
    """How the tokens of one row are cut."""

    tokens: int
    """Tokens of a segment: whole tiles."""
    segments: int
    """Segments that T tokens make."""


def cut(T: int, C: int, tokens: int = 0) -> Cut:
    """Return how to cut T tokens of C channels.

    Args:
        T: Tokens, at least 1.
        C: Channels, at least 1.
        tokens: Tokens of a segment, rounded up to whole tiles; 0 for what the shape says.
    """
    if tokens == 0:
        segments = max(-(-PROGRAMS_OF_A_ROW // -(-C // BLOCK_C)), -(-T // LONGEST_SEGMENT))
        tokens = max(-(-T // segments), SHORTEST_SEGMENT)
    tokens = min(-(-tokens // TILE), -(-T // TILE)) * TILE
    return Cut(tokens, -(-T // tokens))


def wkv4_triton(
    log_w: Float[Tensor, " C"],
    u: Float[Tensor, " C"],
    k: Float[Tensor, "B T C"],
    v: Float[Tensor, "B T C"],
    state: WKV4State,
    resets: Bool[Tensor, "B T"] | None,
) -> tuple[Float[Tensor, "B T C"], WKV4State]:
    """Return y and the state after the last token; see `receptance.ops.wkv4.wkv4`."""
    y, *after, _ = torch.ops.receptance.wkv4_triton(log_w, u, k, v, *state, resets)
    return y, WKV4State(*after)


def wkv4_triton_obstacle(
    log_w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKV4State, resets: Tensor | None
) -> str | None:
    """Return why Triton's kernels cannot run these tensors, as a clause, or None if they can."""
    tensors = [log_w, u, k, v, *state] if resets is None else [log_w, u, k, v, *state, resets]
    return triton_obstacle(*tensors)


@torch.library.custom_op(
    "receptance::wkv4_triton",
    mutates_args=(),
    schema="(Tensor log_w, Tensor u, Tensor k, Tensor v, Tensor num, Tensor den, Tensor log_scale,"
    " Tensor? resets, int tokens=0) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _forward(
    log_w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    num: Tensor,
    den: Tensor,
    log_scale: Tensor,
    resets: Tensor | None,
    tokens: int = 0,
) -> tuple[Tensor, ...]:
    """Return y, the state after the last token, and the borders [3, B, n_tiles, C]."""
    B, T, C = k.shape
    borders = num.new_empty(3, B, -(-T // TILE), C)
    if k.numel() == 0:
        return torch.empty_like(k), num.clone(), den.clone(), log_scale.clone(), borders
    k, v, num, den, log_scale = (each.contiguous() for each in (k, v, num, den, log_scale))
    log_w, u = log_w.contiguous(), u.contiguous()
    resets = None if resets is None else resets.contiguous().view(torch.uint8)
    y, *after = (torch.empty_like(each) for each in (k, num, den, log_scale))
    tokens, segments = cut(T, C, tokens)
    blocks = -(-C // BLOCK_C)
    kernels = kernels_of(__name__)
    with on_device_of(k):
        if segments > 1:
            sums = num.new_empty(4, B, segments, C)
            kernels.summarise[(blocks * B, segments)](
                log_w, k, v, resets, sums, T, C, tokens, **SIZES
            )
            kernels.carry[(blocks * B,)](
                *(num, den, log_scale, sums, borders),
                *(C, segments, tokens // TILE, borders.shape[2], BLOCK_C),
                num_warps=1,
            )
        kernels.forward[(blocks * B, segments)](
            *(log_w, u, k, v, num, den, log_scale, resets, borders, y, *after),
            *(T, C, tokens),
            **SIZES,
        )
    return y, *after, borders


@torch.library.custom_op(
    "receptance::wkv4_triton_backward",
    mutates_args=(),
    schema="(Tensor log_w, Tensor u, Tensor k, Tensor v, Tensor? resets, Tensor borders,"
    " Tensor grad_y, Tensor grad_num, Tensor grad_den, int tokens=0)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    log_w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    resets: Tensor | None,
    borders: Tensor,
    grad_y: Tensor,
    grad_num: Tensor,
    grad_den: Tensor,
    tokens: int = 0,
) -> tuple[Tensor, ...]:
    """Return the gradients of log_w, u, k, v, num and den."""
    B, T, C = k.shape
    if k.numel() == 0:
        nothing = (torch.zeros_like(each) for each in (log_w, u, k, v))
        return *nothing, grad_num.clone(), grad_den.clone()
    log_w, u, k, v, grad_y = (each.contiguous() for each in (log_w, u, k, v, grad_y))
    grad_num, grad_den = grad_num.contiguous(), grad_den.contiguous()
    resets = None if resets is None else resets.contiguous().view(torch.uint8)
    to_k, to_v, to_num, to_den = (torch.empty_like(each) for each in (k, v, grad_num, grad_den))
    tokens, segments = cut(T, C, tokens)
    to_log_w, to_u = grad_num.new_empty(2, B, segments, C)
    grid = (-(-C // BLOCK_C) * B, segments)
    inputs = (log_w, u, k, v, grad_y, resets, borders)
    kernels = kernels_of(__name__, "kernels_backward")
    with on_device_of(k):
        if segments == 1:
            ends = torch.stack((grad_num, grad_den))
        else:
            ends, sums = (
                grad_num.new_empty(2, B, segments, C),
                grad_num.new_empty(3, B, segments, C),
            )
            kernels.summarise[grid](*inputs, sums, T, C, tokens, **SIZES)
            kernels.carry[grid[:1]](
                grad_num, grad_den, sums, ends, C, segments, BLOCK_C, num_warps=1
            )
        kernels.backward[grid](
            *(*inputs, ends, to_k, to_v, to_log_w, to_u, to_num, to_den), *(T, C, tokens), **SIZES
        )
    return to_log_w.sum((0, 1)), to_u.sum((0, 1)), to_k, to_v, to_num, to_den


register("wkv4_triton", "wkv4_triton_backward", tile=TILE, of="Triton wkv4")
