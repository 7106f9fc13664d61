"""The kernels of `wkv4`: the recurrence as a scan over tiles of tokens.

A tile is TILE tokens of BLOCK_C channels; all of a program's work is in registers. What has been
seen is (P, A, B): the paper's a = exp(P) A and b = exp(P) B, as appendix D scales them. A piece of
a sequence takes the sums before it to those after it by (F, P, A, B): fade by exp(F), then add.
Pieces compose, which is all that a scan needs (`join`).

Arrays, dense:
    k, v, y and their gradients [B, T, C], resets [B, T];  log_w, u [C];  states [B, C]
    borders [3, B, n_tiles, C]: num, den and log_scale before each tile
Grid, unless said otherwise: (blocks of channels, segments of whole tiles, B).
"""

import triton
import triton.language as tl

# The log scale of a sum that nothing has been added to; see the reference.
EMPTY = tl.constexpr(-1e38)


@triton.jit
def shares(x, y):
    """Return P, the larger exponent, and exp(x - P), exp(y - P), one of which is 1."""
    smaller = tl.exp(-tl.abs(x - y))
    return tl.maximum(x, y), tl.where(x < y, smaller, 1.0), tl.where(x < y, 1.0, smaller)


@triton.jit
def join(F1, P1, A1, B1, F2, P2, A2, B2):
    """Return a piece of a sequence and the piece after it as one."""
    P, e1, e2 = shares(P1 + F2, P2)
    return F1 + F2, P, e1 * A1 + e2 * A2, e1 * B1 + e2 * B2


@triton.jit
def row_of(tile, index):
    """Return one row of a tile, [BLOCK_C]."""
    rows = tl.arange(0, tile.shape[0])[:, None]
    return tl.sum(tl.where(rows == index, tile, 0.0), axis=0)


@triton.jit
def load(ptr, t, begin, end, C, channel):
    """Return tokens t, a column, of the channels, a row, in float32; 0 outside [begin, end)."""
    at = t.to(tl.int64) * C + channel
    return tl.load(ptr + at, mask=(t >= begin) & (t < end) & (channel < C), other=0.0).to(
        tl.float32
    )


@triton.jit
def is_reset(resets_ptr, t, T):
    """Return whether the state is zero before tokens t, a column."""
    if resets_ptr is None:  # noqa: SIM108 (Triton decides a statement when it compiles)
        reset = t < 0
    else:
        reset = tl.load(resets_ptr + t, mask=t < T, other=0) != 0
    return reset


@triton.jit
def states(log_w, A0, B0, P0, k_ptr, v_ptr, reset, t0, T, C, channel, TILE: tl.constexpr):
    """Return P, A, B before each token of a tile, from those before its first.

    Row i of what is scanned is token i - 1, so that the scan, which counts a row itself, gives what
    was before; row 0 is the border. The rows are asked for twice, here and where their own tokens
    are needed: the second time they are near.
    """
    row = tl.arange(0, TILE)[:, None]
    k = load(k_ptr, t0 + row - 1, t0, T, C, channel[None, :])
    v = load(v_ptr, t0 + row - 1, t0, T, C, channel[None, :])
    first = row == 0
    F = tl.where(reset, -float("inf"), tl.where(first, 0.0, log_w[None, :]))
    P = tl.where(reset, EMPTY, tl.where(first, P0[None, :], k))
    A = tl.where(reset, 0.0, tl.where(first, A0[None, :], v))
    B = tl.where(reset, 0.0, tl.where(first, B0[None, :], 1.0))
    _, P, A, B = tl.associative_scan((F, P, A, B), 0, join)
    return P, A, B


@triton.jit
def after(log_w, P, A, B, k_ptr, v_ptr, t0, T, C, channel, TILE: tl.constexpr):
    """Return P, A, B after the last token of a tile, from those before each of its tokens."""
    last = tl.minimum(T - t0, TILE) - 1
    t = t0 + last + tl.zeros_like(channel)
    k = load(k_ptr, t, t0, T, C, channel)
    v = load(v_ptr, t, t0, T, C, channel)
    P, x, z = shares(row_of(P, last) + log_w, k)
    return P, x * row_of(A, last) + z * v, x * row_of(B, last) + z


@triton.jit
def summarise(
    log_w_ptr, k_ptr, v_ptr, resets_ptr, sums_ptr, T, C, tokens, TILE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write what each segment does to the sums: sums [4, B, segments, C] are F, P, A, B.

    Reads k and v once.
    """
    segment, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    k_ptr += b * T * C
    v_ptr += b * T * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    end = tl.minimum(begin + tokens, T)

    A = tl.zeros_like(log_w)
    B = tl.zeros_like(log_w)
    P = tl.zeros_like(log_w) + EMPTY
    F = log_w * (end - begin).to(tl.float32)
    for t0 in range(begin, end, TILE):
        t = t0 + tl.arange(0, TILE)[:, None]
        reset = is_reset(resets_ptr, t, T)
        Ps, As, Bs = states(log_w, A, B, P, k_ptr, v_ptr, reset, t0, T, C, channel, TILE)
        P, A, B = after(log_w, Ps, As, Bs, k_ptr, v_ptr, t0, T, C, channel, TILE)
        F = tl.where(tl.max(reset.to(tl.int32)) > 0, -float("inf"), F)

    plane = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * C
    sums_ptr += (b * tl.num_programs(1) + segment) * C + channel
    tl.store(sums_ptr, F, mask=inside)
    tl.store(sums_ptr + plane, P, mask=inside)
    tl.store(sums_ptr + 2 * plane, A, mask=inside)
    tl.store(sums_ptr + 3 * plane, B, mask=inside)


@triton.jit
def carry(
    num_ptr, den_ptr, log_scale_ptr, sums_ptr, borders_ptr, C, segments, tiles, n_tiles,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the borders that segments of `tiles` tiles begin with, but the first's.

    Grid: (blocks of channels, 1, B). Reads what `summarise` wrote.
    """
    b = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    A = tl.load(num_ptr + b * C + channel, mask=inside, other=0.0)
    B = tl.load(den_ptr + b * C + channel, mask=inside, other=0.0)
    P = tl.load(log_scale_ptr + b * C + channel, mask=inside, other=0.0)
    F = tl.zeros_like(A)
    sums_plane = tl.num_programs(2).to(tl.int64) * segments * C
    borders_plane = tl.num_programs(2).to(tl.int64) * n_tiles * C
    sums_ptr += b * segments * C + channel
    borders_ptr += b * n_tiles * C + channel
    for _ in range(1, segments):
        F2 = tl.load(sums_ptr, mask=inside, other=0.0)
        P2 = tl.load(sums_ptr + sums_plane, mask=inside, other=0.0)
        A2 = tl.load(sums_ptr + 2 * sums_plane, mask=inside, other=0.0)
        B2 = tl.load(sums_ptr + 3 * sums_plane, mask=inside, other=0.0)
        F, P, A, B = join(F, P, A, B, F2, P2, A2, B2)
        sums_ptr += C
        borders_ptr += tl.cast(tiles, tl.int64) * C
        tl.store(borders_ptr, A, mask=inside)
        tl.store(borders_ptr + borders_plane, B, mask=inside)
        tl.store(borders_ptr + 2 * borders_plane, P, mask=inside)


@triton.jit
def forward(
    log_w_ptr, u_ptr, k_ptr, v_ptr, num_ptr, den_ptr, log_scale_ptr, resets_ptr, borders_ptr,
    y_ptr, after_num_ptr, after_den_ptr, after_log_scale_ptr, T, C, tokens, TILE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write y, the state after the last token, and the borders that are not written yet.

    A program takes a segment from its first token to its last. Reads k and v, writes y.
    """
    segment, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    u = tl.load(u_ptr + channel, mask=inside, other=0.0)
    k_ptr += b * T * C
    v_ptr += b * T * C
    y_ptr += b * T * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    end = tl.minimum(begin + tokens, T)

    n_tiles = tl.cdiv(T, TILE)
    plane = tl.num_programs(2).to(tl.int64) * n_tiles * C
    borders_ptr += (b * n_tiles + begin // TILE) * C + channel
    if segment == 0:
        A = tl.load(num_ptr + b * C + channel, mask=inside, other=0.0)
        B = tl.load(den_ptr + b * C + channel, mask=inside, other=0.0)
        P = tl.load(log_scale_ptr + b * C + channel, mask=inside, other=0.0)
    else:
        A = tl.load(borders_ptr, mask=inside, other=0.0)
        B = tl.load(borders_ptr + plane, mask=inside, other=0.0)
        P = tl.load(borders_ptr + 2 * plane, mask=inside, other=0.0)

    for t0 in range(begin, end, TILE):
        if (t0 > begin) | (segment == 0):
            tl.store(borders_ptr, A, mask=inside)
            tl.store(borders_ptr + plane, B, mask=inside)
            tl.store(borders_ptr + 2 * plane, P, mask=inside)
        borders_ptr += C
        t = t0 + tl.arange(0, TILE)[:, None]
        reset = is_reset(resets_ptr, t, T)
        Ps, As, Bs = states(log_w, A, B, P, k_ptr, v_ptr, reset, t0, T, C, channel, TILE)
        k = load(k_ptr, t, t0, T, C, channel[None, :])
        v = load(v_ptr, t, t0, T, C, channel[None, :])
        _, e_past, e_now = shares(Ps, u[None, :] + k)
        y = (e_past * As + e_now * v) / (e_past * Bs + e_now)
        tl.store(y_ptr + t.to(tl.int64) * C + channel[None, :], y, mask=(t < T) & inside[None, :])
        P, A, B = after(log_w, Ps, As, Bs, k_ptr, v_ptr, t0, T, C, channel, TILE)

    if end == T:
        tl.store(after_num_ptr + b * C + channel, A, mask=inside)
        tl.store(after_den_ptr + b * C + channel, B, mask=inside)
        tl.store(after_log_scale_ptr + b * C + channel, P, mask=inside)
