"""The kernels of the gradients of `wkv4`, from the last token to the first.

They carry (Ga, Gb), the gradients of A and B after a token. The states that the way there went
through are computed again, tile by tile, from the borders that it left. Arrays, grid, and who has
what: `kernels`.
"""

import triton
import triton.language as tl

from receptance.ops.wkv4.triton.kernels import (
    ANY_SIZE,
    BY_NUMBER,
    is_reset,
    load,
    place,
    row_of,
    shares,
    store,
    walk,
    with_row,
)


@triton.jit
def visit(
    log_w, u, k_ptr, v_ptr, grad_y_ptr, resets_ptr, border_ptr, plane, t0, T, C: tl.constexpr,
    channel, TILE: tl.constexpr, IS_WHOLE: tl.constexpr,
):  # fmt: skip
    """Return what the way back needs of the tokens of a tile, computed again from its border.

    x and z are the shares of the old sums and of the token in the sums after it; r and s those of
    the sums and of the token in y's denominator, times the gradient of y.
    """
    inside = channel < C
    A = tl.load(border_ptr + channel, mask=inside, other=0.0)
    B = tl.load(border_ptr + plane + channel, mask=inside, other=0.0)
    P = tl.load(border_ptr + 2 * plane + channel, mask=inside, other=0.0)
    k = load(k_ptr, t0, T, C, channel, TILE, IS_WHOLE)
    v = load(v_ptr, t0, T, C, channel, TILE, IS_WHOLE)
    g = load(grad_y_ptr, t0, T, C, channel, TILE, IS_WHOLE)
    P, A, B, x, z, _, _, _ = walk(log_w, P, A, B, k, v, resets_ptr, t0, T, TILE, IS_WHOLE)
    _, e_past, e_now = shares(P, u[None, :] + k)
    inverse = 1 / (e_past * B + e_now)
    y = (e_past * A + e_now * v) * inverse
    return A, B, v, y, x, z, g * inverse * e_past, g * inverse * e_now


@triton.jit
def step_back(x, gr, y, Ga, Gb, resets_ptr, t, T, IS_WHOLE: tl.constexpr):
    """Return Ga and Gb before a token from those after it.

    A token with a reset lets nothing through, one that is not there everything.
    """
    before_a = x * Ga + gr
    before_b = x * Gb - gr * y
    if resets_ptr is not None:
        reset = is_reset(resets_ptr, t, T)
        before_a = tl.where(reset, 0.0, before_a)
        before_b = tl.where(reset, 0.0, before_b)
    if not IS_WHOLE:
        before_a = tl.where(t < T, before_a, Ga)
        before_b = tl.where(t < T, before_b, Gb)
    return before_a, before_b


@triton.jit
def undo(
    log_w, u, X, Va, Vb, k_ptr, v_ptr, grad_y_ptr, resets_ptr, border_ptr, plane, t0, T,
    C: tl.constexpr, channel, TILE: tl.constexpr, IS_WHOLE: tl.constexpr,
):  # fmt: skip
    """Return X, Va and Vb of a tile and what comes after it, from those of what comes after."""
    _, _, _, y, x, _, gr, _ = visit(
        log_w, u, k_ptr, v_ptr, grad_y_ptr, resets_ptr, border_ptr, plane, t0, T, C, channel, TILE,
        IS_WHOLE,
    )  # fmt: skip
    for back in tl.static_range(TILE):
        i = TILE - 1 - back
        x_i = row_of(x, i)
        Va, Vb = step_back(
            x_i, row_of(gr, i), row_of(y, i), Va, Vb, resets_ptr, t0 + i, T, IS_WHOLE
        )
        X, _ = step_back(x_i, 0.0, 0.0, X, X, resets_ptr, t0 + i, T, IS_WHOLE)
    return X, Va, Vb


@triton.jit
def differentiate(
    log_w, u, Ga, Gb, grad_log_w, grad_u, k_ptr, v_ptr, grad_y_ptr, resets_ptr, border_ptr, plane,
    grad_k_ptr, grad_v_ptr, t0, T, C: tl.constexpr, channel, TILE: tl.constexpr,
    IS_WHOLE: tl.constexpr,
):  # fmt: skip
    """Write a tile's gradients of k and v; return Ga and Gb before it, and both sums with it."""
    A, B, v, y, x, z, gr, gs = visit(
        log_w, u, k_ptr, v_ptr, grad_y_ptr, resets_ptr, border_ptr, plane, t0, T, C, channel, TILE,
        IS_WHOLE,
    )  # fmt: skip
    after_a = tl.zeros_like(v)
    after_b = tl.zeros_like(v)
    for back in tl.static_range(TILE):
        i = TILE - 1 - back
        after_a = with_row(after_a, i, Ga)
        after_b = with_row(after_b, i, Gb)
        Ga, Gb = step_back(
            row_of(x, i), row_of(gr, i), row_of(y, i), Ga, Gb, resets_ptr, t0 + i, T, IS_WHOLE
        )
    by_y = gs * (v - y)
    by_decay = x * (after_a * A + after_b * B)
    if not IS_WHOLE:
        by_decay = tl.where(t0 + tl.arange(0, TILE)[:, None] < T, by_decay, 0.0)
    store(grad_k_ptr, z * (after_a * v + after_b) + by_y, t0, T, C, channel, TILE, IS_WHOLE)
    store(grad_v_ptr, z * after_a + gs, t0, T, C, channel, TILE, IS_WHOLE)
    return Ga, Gb, grad_log_w + tl.sum(by_decay, axis=0), grad_u + tl.sum(by_y, axis=0)


@triton.jit(do_not_specialize=ANY_SIZE, do_not_specialize_on_alignment=BY_NUMBER)
def summarise(
    log_w_ptr, u_ptr, k_ptr, v_ptr, grad_y_ptr, resets_ptr, borders_ptr, sums_ptr, T,
    C: tl.constexpr, tokens, TILE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write what each segment does to Ga and Gb: sums [3, B, segments, C] are X, Va, Vb.

    Reads k, v, the gradient of y and the borders once.
    """
    segment = tl.program_id(1)
    channel, b, rows = place(C, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    u = tl.load(u_ptr + channel, mask=inside, other=0.0)
    k_ptr += b * T * C
    v_ptr += b * T * C
    grad_y_ptr += b * T * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    IS_EVEN: tl.constexpr = C % BLOCK_C == 0
    end = tl.minimum(begin + tokens, T)
    n_tiles = tl.cdiv(T, TILE)
    plane = rows * n_tiles * C

    X = tl.zeros_like(log_w) + 1.0
    Va = tl.zeros_like(log_w)
    Vb = tl.zeros_like(log_w)
    for back in range(tl.cdiv(end - begin, TILE)):
        tile = tl.cdiv(end, TILE) - 1 - back
        border_ptr = borders_ptr + (b * n_tiles + tile) * C
        at = tl.cast(tile, tl.int64) * (TILE * C)
        if IS_EVEN and tile * TILE + TILE <= T:
            X, Va, Vb = undo(
                log_w, u, X, Va, Vb, k_ptr + at, v_ptr + at, grad_y_ptr + at, resets_ptr,
                border_ptr, plane, tile * TILE, T, C, channel, TILE, True,
            )  # fmt: skip
        else:
            X, Va, Vb = undo(
                log_w, u, X, Va, Vb, k_ptr + at, v_ptr + at, grad_y_ptr + at, resets_ptr,
                border_ptr, plane, tile * TILE, T, C, channel, TILE, False,
            )  # fmt: skip

    plane = rows * tl.num_programs(1) * C
    sums_ptr += (b * tl.num_programs(1) + segment) * C + channel
    tl.store(sums_ptr, X, mask=inside)
    tl.store(sums_ptr + plane, Va, mask=inside)
    tl.store(sums_ptr + 2 * plane, Vb, mask=inside)


@triton.jit(do_not_specialize=ANY_SIZE)
def carry(
    grad_after_num_ptr,
    grad_after_den_ptr,
    sums_ptr,
    ends_ptr,
    C: tl.constexpr,
    segments,
    BLOCK_C: tl.constexpr,
):
    """Write Ga and Gb after the last token of each segment: ends [2, B, segments, C].

    Grid: (blocks of channels × B). Reads what `summarise` wrote.
    """
    channel, b, rows = place(C, BLOCK_C)
    inside = channel < C
    Ga = tl.load(grad_after_num_ptr + b * C + channel, mask=inside, other=0.0)
    Gb = tl.load(grad_after_den_ptr + b * C + channel, mask=inside, other=0.0)
    plane = rows * segments * C
    for back in range(1, segments + 1):
        at = (b * segments + segments - back) * C + channel
        tl.store(ends_ptr + at, Ga, mask=inside)
        tl.store(ends_ptr + plane + at, Gb, mask=inside)
        X = tl.load(sums_ptr + at, mask=inside, other=0.0)
        Ga = X * Ga + tl.load(sums_ptr + plane + at, mask=inside, other=0.0)
        Gb = X * Gb + tl.load(sums_ptr + 2 * plane + at, mask=inside, other=0.0)


@triton.jit(do_not_specialize=ANY_SIZE, do_not_specialize_on_alignment=BY_NUMBER)
def backward(
    log_w_ptr, u_ptr, k_ptr, v_ptr, grad_y_ptr, resets_ptr, borders_ptr, ends_ptr, grad_k_ptr,
    grad_v_ptr, grad_log_w_ptr, grad_u_ptr, grad_num_ptr, grad_den_ptr, T, C: tl.constexpr,
    tokens, TILE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the gradients of k, v and the state, and each segment's of log_w and u.

    A program takes a segment from its last token to its first, from the gradients of the state
    after it, ends [2, B, segments, C]. Reads k, v and the gradient of y, writes those of k and v.
    Gradients of log_w and u are [B, segments, C], to be added up in an order that does not change.
    """
    segment = tl.program_id(1)
    channel, b, rows = place(C, BLOCK_C)
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
    IS_EVEN: tl.constexpr = C % BLOCK_C == 0
    end = tl.minimum(begin + tokens, T)
    n_tiles = tl.cdiv(T, TILE)
    plane = rows * n_tiles * C
    of_segment = (b * tl.num_programs(1) + segment) * C + channel
    segments_plane = rows * tl.num_programs(1) * C

    Ga = tl.load(ends_ptr + of_segment, mask=inside, other=0.0)
    Gb = tl.load(ends_ptr + segments_plane + of_segment, mask=inside, other=0.0)
    grad_log_w = tl.zeros_like(log_w)
    grad_u = tl.zeros_like(log_w)
    for back in range(tl.cdiv(end - begin, TILE)):
        tile = tl.cdiv(end, TILE) - 1 - back
        border_ptr = borders_ptr + (b * n_tiles + tile) * C
        at = tl.cast(tile, tl.int64) * (TILE * C)
        if IS_EVEN and tile * TILE + TILE <= T:
            Ga, Gb, grad_log_w, grad_u = differentiate(
                log_w, u, Ga, Gb, grad_log_w, grad_u, k_ptr + at, v_ptr + at, grad_y_ptr + at,
                resets_ptr, border_ptr, plane, grad_k_ptr + at, grad_v_ptr + at, tile * TILE, T, C,
                channel, TILE, True,
            )  # fmt: skip
        else:
            Ga, Gb, grad_log_w, grad_u = differentiate(
                log_w, u, Ga, Gb, grad_log_w, grad_u, k_ptr + at, v_ptr + at, grad_y_ptr + at,
                resets_ptr, border_ptr, plane, grad_k_ptr + at, grad_v_ptr + at, tile * TILE, T, C,
                channel, TILE, False,
            )  # fmt: skip

    tl.store(grad_log_w_ptr + of_segment, grad_log_w, mask=inside)
    tl.store(grad_u_ptr + of_segment, grad_u, mask=inside)
    if segment == 0:
        tl.store(grad_num_ptr + b * C + channel, Ga, mask=inside)
        tl.store(grad_den_ptr + b * C + channel, Gb, mask=inside)
