"""The kernels of the gradients of `wkv4`, from the last token to the first.

They carry (Ga, Gb), the gradients of A and B. A token takes those after it to those before it by
G -> X G + V, and pieces of a sequence compose (`chain`). The states that the way there went through
are computed again, tile by tile, from the borders that it left. Arrays and grid: `kernels`.
"""

import triton
import triton.language as tl

from receptance.ops.wkv4.triton.kernels import is_reset, load, row_of, shares, states


@triton.jit
def chain(X2, Va2, Vb2, X1, Va1, Vb1):
    """Return a piece of a sequence (1) and the piece after it (2) as one, for gradients."""
    return X1 * X2, Va1 + X1 * Va2, Vb1 + X1 * Vb2


@triton.jit
def visit(
    log_w, u, k_ptr, v_ptr, grad_y_ptr, resets_ptr, border_ptr, plane, t0, T, C, channel,
    TILE: tl.constexpr,
):  # fmt: skip
    """Return what the way back needs of the tokens of a tile, computed again from its border.

    x and z are the shares of the old sums and of the token in the sums after it; r and s those of
    the sums and of the token in y's denominator, times the gradient of y.
    """
    t = t0 + tl.arange(0, TILE)[:, None]
    inside = channel < C
    A0 = tl.load(border_ptr + channel, mask=inside, other=0.0)
    B0 = tl.load(border_ptr + plane + channel, mask=inside, other=0.0)
    P0 = tl.load(border_ptr + 2 * plane + channel, mask=inside, other=0.0)
    reset = is_reset(resets_ptr, t, T)
    P, A, B = states(log_w, A0, B0, P0, k_ptr, v_ptr, reset, t0, T, C, channel, TILE)
    k = load(k_ptr, t, t0, T, C, channel[None, :])
    v = load(v_ptr, t, t0, T, C, channel[None, :])
    g = load(grad_y_ptr, t, t0, T, C, channel[None, :])
    _, e_past, e_now = shares(P, u[None, :] + k)
    g_b = g / (e_past * B + e_now)
    y = (e_past * A + e_now * v) / (e_past * B + e_now)
    _, x, z = shares(P + log_w[None, :], k)
    gr = g_b * e_past
    # A token that is not there passes gradients on; one with a reset lets none through.
    alive = tl.where(reset, 0.0, 1.0)
    X = tl.where(t < T, x * alive, 1.0)
    X, Va, Vb = tl.associative_scan((X, gr * alive, -gr * y * alive), 0, chain, reverse=True)
    return A, B, v, y, x, z, g_b * e_now, X, Va, Vb


@triton.jit
def summarise(
    log_w_ptr, u_ptr, k_ptr, v_ptr, grad_y_ptr, resets_ptr, borders_ptr, sums_ptr, T, C, tokens,
    TILE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write what each segment does to Ga and Gb: sums [3, B, segments, C] are X, Va, Vb.

    Reads k, v, the gradient of y and the borders once.
    """
    segment, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    u = tl.load(u_ptr + channel, mask=inside, other=0.0)
    k_ptr += b * T * C
    v_ptr += b * T * C
    grad_y_ptr += b * T * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    end = tl.minimum(begin + tokens, T)
    n_tiles = tl.cdiv(T, TILE)
    plane = tl.num_programs(2).to(tl.int64) * n_tiles * C

    X = tl.zeros_like(log_w) + 1.0
    Va = tl.zeros_like(log_w)
    Vb = tl.zeros_like(log_w)
    for back in range(tl.cdiv(end - begin, TILE)):
        tile = tl.cdiv(end, TILE) - 1 - back
        border_ptr = borders_ptr + (b * n_tiles + tile) * C
        _, _, _, _, _, _, _, Xs, Vas, Vbs = visit(
            log_w,
            u,
            k_ptr,
            v_ptr,
            grad_y_ptr,
            resets_ptr,
            border_ptr,
            plane,
            tile * TILE,
            T,
            C,
            channel,
            TILE,
        )
        X, Va, Vb = chain(X, Va, Vb, row_of(Xs, 0), row_of(Vas, 0), row_of(Vbs, 0))

    plane = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * C
    sums_ptr += (b * tl.num_programs(1) + segment) * C + channel
    tl.store(sums_ptr, X, mask=inside)
    tl.store(sums_ptr + plane, Va, mask=inside)
    tl.store(sums_ptr + 2 * plane, Vb, mask=inside)


@triton.jit
def carry(
    grad_after_num_ptr, grad_after_den_ptr, sums_ptr, ends_ptr, C, segments, BLOCK_C: tl.constexpr
):
    """Write Ga and Gb after the last token of each segment: ends [2, B, segments, C].

    Grid: (blocks of channels, 1, B). Reads what `summarise` wrote.
    """
    b = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    Ga = tl.load(grad_after_num_ptr + b * C + channel, mask=inside, other=0.0)
    Gb = tl.load(grad_after_den_ptr + b * C + channel, mask=inside, other=0.0)
    plane = tl.num_programs(2).to(tl.int64) * segments * C
    for back in range(1, segments + 1):
        at = (b * segments + segments - back) * C + channel
        tl.store(ends_ptr + at, Ga, mask=inside)
        tl.store(ends_ptr + plane + at, Gb, mask=inside)
        X = tl.load(sums_ptr + at, mask=inside, other=0.0)
        Ga = X * Ga + tl.load(sums_ptr + plane + at, mask=inside, other=0.0)
        Gb = X * Gb + tl.load(sums_ptr + 2 * plane + at, mask=inside, other=0.0)


@triton.jit
def backward(
    log_w_ptr, u_ptr, k_ptr, v_ptr, grad_y_ptr, resets_ptr, borders_ptr, ends_ptr, grad_k_ptr,
    grad_v_ptr, grad_log_w_ptr, grad_u_ptr, grad_num_ptr, grad_den_ptr, T, C, tokens,
    TILE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the gradients of k, v and the state, and each segment's of log_w and u.

    A program takes a segment from its last token to its first, from the gradients of the state
    after it, ends [2, B, segments, C]. Reads k, v and the gradient of y, writes those of k and v.
    Gradients of log_w and u are [B, segments, C], to be added up in an order that does not change.
    """
    segment, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    u = tl.load(u_ptr + channel, mask=inside, other=0.0)
    k_ptr += b * T * C
    v_ptr += b * T * C
    grad_y_ptr += b * T * C
    grad_k_ptr += b * T * C
    grad_v_ptr += b * T * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    end = tl.minimum(begin + tokens, T)
    n_tiles = tl.cdiv(T, TILE)
    plane = tl.num_programs(2).to(tl.int64) * n_tiles * C
    of_segment = (b * tl.num_programs(1) + segment) * C + channel
    segments_plane = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * C

    row = tl.arange(0, TILE)[:, None]
    next_row = tl.minimum(row + 1, TILE - 1) + tl.zeros([TILE, BLOCK_C], tl.int32)
    Ga = tl.load(ends_ptr + of_segment, mask=inside, other=0.0)
    Gb = tl.load(ends_ptr + segments_plane + of_segment, mask=inside, other=0.0)
    grad_log_w = tl.zeros_like(log_w)
    grad_u = tl.zeros_like(log_w)
    for back in range(tl.cdiv(end - begin, TILE)):
        tile = tl.cdiv(end, TILE) - 1 - back
        A, B, v, y, x, z, gs, X, Va, Vb = visit(
            log_w, u, k_ptr, v_ptr, grad_y_ptr, resets_ptr,
            borders_ptr + (b * n_tiles + tile) * C, plane, tile * TILE, T, C, channel, TILE,
        )  # fmt: skip
        # Gradients of the sums before each token; those after it are before the next one.
        before_a = X * Ga[None, :] + Va
        before_b = X * Gb[None, :] + Vb
        after_a = tl.where(row == TILE - 1, Ga[None, :], tl.gather(before_a, next_row, 0))
        after_b = tl.where(row == TILE - 1, Gb[None, :], tl.gather(before_b, next_row, 0))
        Ga = row_of(before_a, 0)
        Gb = row_of(before_b, 0)

        t = tile * TILE + row
        at = t.to(tl.int64) * C + channel[None, :]
        there = (t < T) & inside[None, :]
        by_y = gs * (v - y)
        tl.store(grad_k_ptr + at, z * (after_a * v + after_b) + by_y, mask=there)
        tl.store(grad_v_ptr + at, z * after_a + gs, mask=there)
        grad_u += tl.sum(by_y, axis=0)
        grad_log_w += tl.sum(tl.where(there, x * (after_a * A + after_b * B), 0.0), axis=0)

    tl.store(grad_log_w_ptr + of_segment, grad_log_w, mask=inside)
    tl.store(grad_u_ptr + of_segment, grad_u, mask=inside)
    if segment == 0:
        tl.store(grad_num_ptr + b * C + channel, Ga, mask=inside)
        tl.store(grad_den_ptr + b * C + channel, Gb, mask=inside)
