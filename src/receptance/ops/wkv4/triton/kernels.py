"""The kernels of `wkv4`: the recurrence, channel by channel, a tile of tokens at a time.

A tile is TILE tokens of BLOCK_C channels. What has been seen is (P, A, B): the paper's a = exp(P) A
and b = exp(P) B, as appendix D scales them.

A program is one warp, and each of its threads has the whole column of a tile: the loop over tokens
is unrolled, and nothing passes between threads. So loads are of a number a thread, and Triton must
not know that addresses are multiples of more: it would give each thread eight neighbours, and the
columns of a tile would lie in eight threads (`BY_NUMBER`).

Arrays, dense:
    k, v, y and their gradients [B, T, C], resets [B, T];  log_w, u [C];  states [B, C]
    borders [3, B, n_tiles, C]: num, den and log_scale before each tile
Grid, unless said otherwise: (blocks of channels × B, segments of whole tiles).
"""

import triton
import triton.language as tl

# The log scale of a sum that nothing has been added to; see the reference.
EMPTY = tl.constexpr(-1e38)
# An exponential to base 2 is one instruction, those of GPUs for base e are several.
LOG2_E = tl.constexpr(1.4426950408889634)

BY_NUMBER = ["k_ptr", "v_ptr", "y_ptr", "grad_y_ptr", "grad_k_ptr", "grad_v_ptr"]
# Sizes that say nothing of alignment: a kernel is compiled once for all of them.
ANY_SIZE = ["T", "tokens", "segments", "tiles", "n_tiles"]


@triton.jit
def place(C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return a program's channels, its row of the batch, and how many rows there are."""
    blocks: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    channel = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = tl.num_programs(0) // blocks
    return channel, (tl.program_id(0) // blocks).to(tl.int64), rows.to(tl.int64)


@triton.jit
def shares(x, y):
    """Return P, the larger exponent, and exp(x - P), exp(y - P), one of which is 1."""
    smaller = tl.exp2(-tl.abs(x - y) * LOG2_E)
    return tl.maximum(x, y), tl.where(x < y, smaller, 1.0), tl.where(x < y, 1.0, smaller)


@triton.jit
def join(F1, P1, A1, B1, F2, P2, A2, B2):
    """Return a piece of a sequence and the piece after it as one."""
    P, e1, e2 = shares(P1 + F2, P2)
    return F1 + F2, P, e1 * A1 + e2 * A2, e1 * B1 + e2 * B2


@triton.jit
def row_of(tile, index: tl.constexpr):
    """Return a row of a tile, [BLOCK_C].

    Of bits, so that adding zeros is nothing to a compiler: where a thread has a whole column, this
    is a name for a register.
    """
    rows = tl.arange(0, tile.shape[0])[:, None]
    bits = tl.where(rows == index, tile.to(tl.int32, bitcast=True), 0)
    return tl.sum(bits, axis=0).to(tl.float32, bitcast=True)


@triton.jit
def with_row(tile, index: tl.constexpr, value):
    """Return a tile with another row."""
    rows = tl.arange(0, tile.shape[0])[:, None]
    return tl.where(rows == index, value[None, :], tile)


@triton.jit
def load(ptr, t0, T, C: tl.constexpr, channel, TILE: tl.constexpr, IS_WHOLE: tl.constexpr):
    """Return a tile that begins at `ptr` with token t0, in float32; 0 for what is not there."""
    row = tl.arange(0, TILE)[:, None]
    at = ptr + row * C + channel[None, :]
    if IS_WHOLE:
        tile = tl.load(at)
    else:
        tile = tl.load(at, mask=(t0 + row < T) & (channel < C)[None, :], other=0.0)
    return tile.to(tl.float32)


@triton.jit
def store(ptr, tile, t0, T, C: tl.constexpr, channel, TILE: tl.constexpr, IS_WHOLE: tl.constexpr):
    """Write a tile that begins at `ptr` with token t0."""
    row = tl.arange(0, TILE)[:, None]
    at = ptr + row * C + channel[None, :]
    if IS_WHOLE:
        tl.store(at, tile.to(ptr.dtype.element_ty))
    else:
        there = (t0 + row < T) & (channel < C)[None, :]
        tl.store(at, tile.to(ptr.dtype.element_ty), mask=there)


@triton.jit
def is_reset(resets_ptr, t, T):
    """Return whether the state is zero before token t; not for one that is not there."""
    return tl.load(resets_ptr + t, mask=t < T, other=0) != 0


@triton.jit
def walk(log_w, P, A, B, k, v, resets_ptr, t0, T, TILE: tl.constexpr, IS_WHOLE: tl.constexpr):
    """Go through a tile from the sums before its first token.

    Returns P, A, B before each token and the shares x, z of the sums and of the token in the sums
    after it, [TILE, BLOCK_C] each; and P, A, B after the last.
    """
    befores_P = tl.zeros_like(k)
    befores_A = tl.zeros_like(k)
    befores_B = tl.zeros_like(k)
    xs = tl.zeros_like(k)
    zs = tl.zeros_like(k)
    for i in tl.static_range(TILE):
        if resets_ptr is not None:
            reset = is_reset(resets_ptr, t0 + i, T)
            P = tl.where(reset, EMPTY, P)
            A = tl.where(reset, 0.0, A)
            B = tl.where(reset, 0.0, B)
        befores_P = with_row(befores_P, i, P)
        befores_A = with_row(befores_A, i, A)
        befores_B = with_row(befores_B, i, B)
        after_P, x, z = shares(P + log_w, row_of(k, i))
        after_A = x * A + z * row_of(v, i)
        after_B = x * B + z
        xs = with_row(xs, i, x)
        zs = with_row(zs, i, z)
        if IS_WHOLE:
            P, A, B = after_P, after_A, after_B
        else:
            is_there = t0 + i < T
            P = tl.where(is_there, after_P, P)
            A = tl.where(is_there, after_A, A)
            B = tl.where(is_there, after_B, B)
    return befores_P, befores_A, befores_B, xs, zs, P, A, B


@triton.jit(do_not_specialize=ANY_SIZE, do_not_specialize_on_alignment=BY_NUMBER)
def summarise(
    log_w_ptr, k_ptr, v_ptr, resets_ptr, sums_ptr, T, C: tl.constexpr, tokens,
    TILE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write what each segment does to the sums: sums [4, B, segments, C] are F, P, A, B.

    Reads k and v once.
    """
    segment = tl.program_id(1)
    channel, b, rows = place(C, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    k_ptr += (b * T + segment * tokens) * C
    v_ptr += (b * T + segment * tokens) * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    IS_EVEN: tl.constexpr = C % BLOCK_C == 0
    end = tl.minimum(begin + tokens, T)

    A = tl.zeros_like(log_w)
    B = tl.zeros_like(log_w)
    P = tl.zeros_like(log_w) + EMPTY
    F = log_w * (end - begin).to(tl.float32)
    for t0 in range(begin, end, TILE):
        if IS_EVEN and t0 + TILE <= T:
            k = load(k_ptr, t0, T, C, channel, TILE, True)
            v = load(v_ptr, t0, T, C, channel, TILE, True)
            _, _, _, _, _, P, A, B = walk(log_w, P, A, B, k, v, resets_ptr, t0, T, TILE, True)
        else:
            k = load(k_ptr, t0, T, C, channel, TILE, False)
            v = load(v_ptr, t0, T, C, channel, TILE, False)
            _, _, _, _, _, P, A, B = walk(log_w, P, A, B, k, v, resets_ptr, t0, T, TILE, False)
        if resets_ptr is not None:
            t = t0 + tl.arange(0, TILE)
            reset = tl.max(tl.load(resets_ptr + t, mask=t < T, other=0).to(tl.int32), axis=0)
            F = tl.where(reset > 0, -float("inf"), F)
        k_ptr += TILE * C
        v_ptr += TILE * C

    plane = rows * tl.num_programs(1) * C
    sums_ptr += (b * tl.num_programs(1) + segment) * C + channel
    tl.store(sums_ptr, F, mask=inside)
    tl.store(sums_ptr + plane, P, mask=inside)
    tl.store(sums_ptr + 2 * plane, A, mask=inside)
    tl.store(sums_ptr + 3 * plane, B, mask=inside)


@triton.jit(do_not_specialize=ANY_SIZE)
def carry(
    num_ptr, den_ptr, log_scale_ptr, sums_ptr, borders_ptr, C: tl.constexpr, segments, tiles,
    n_tiles, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the borders that segments of `tiles` tiles begin with, but the first's.

    Grid: (blocks of channels × B). Reads what `summarise` wrote.
    """
    channel, b, rows = place(C, BLOCK_C)
    inside = channel < C
    A = tl.load(num_ptr + b * C + channel, mask=inside, other=0.0)
    B = tl.load(den_ptr + b * C + channel, mask=inside, other=0.0)
    P = tl.load(log_scale_ptr + b * C + channel, mask=inside, other=0.0)
    F = tl.zeros_like(A)
    sums_plane = rows * segments * C
    borders_plane = rows * n_tiles * C
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
def average(
    log_w, u, P, A, B, k_ptr, v_ptr, y_ptr, resets_ptr, t0, T, C: tl.constexpr, channel,
    TILE: tl.constexpr, IS_WHOLE: tl.constexpr,
):  # fmt: skip
    """Write y of a tile, and return P, A, B after it."""
    k = load(k_ptr, t0, T, C, channel, TILE, IS_WHOLE)
    v = load(v_ptr, t0, T, C, channel, TILE, IS_WHOLE)
    Ps, As, Bs, _, _, P, A, B = walk(log_w, P, A, B, k, v, resets_ptr, t0, T, TILE, IS_WHOLE)
    _, e_past, e_now = shares(Ps, u[None, :] + k)
    y = (e_past * As + e_now * v) / (e_past * Bs + e_now)
    store(y_ptr, y, t0, T, C, channel, TILE, IS_WHOLE)
    return P, A, B


@triton.jit(do_not_specialize=ANY_SIZE, do_not_specialize_on_alignment=BY_NUMBER)
def forward(
    log_w_ptr, u_ptr, k_ptr, v_ptr, num_ptr, den_ptr, log_scale_ptr, resets_ptr, borders_ptr,
    y_ptr, after_num_ptr, after_den_ptr, after_log_scale_ptr, T, C: tl.constexpr, tokens,
    TILE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write y, the state after the last token, and the borders that are not written yet.

    A program takes a segment from its first token to its last. Reads k and v, writes y.
    """
    segment = tl.program_id(1)
    channel, b, rows = place(C, BLOCK_C)
    inside = channel < C
    log_w = tl.load(log_w_ptr + channel, mask=inside, other=0.0)
    u = tl.load(u_ptr + channel, mask=inside, other=0.0)
    k_ptr += (b * T + segment * tokens) * C
    v_ptr += (b * T + segment * tokens) * C
    y_ptr += (b * T + segment * tokens) * C
    if resets_ptr is not None:
        resets_ptr += b * T
    begin = segment * tokens
    IS_EVEN: tl.constexpr = C % BLOCK_C == 0
    end = tl.minimum(begin + tokens, T)

    n_tiles = tl.cdiv(T, TILE)
    plane = rows * n_tiles * C
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
        if IS_EVEN and t0 + TILE <= T:
            P, A, B = average(
                log_w, u, P, A, B, k_ptr, v_ptr, y_ptr, resets_ptr, t0, T, C, channel, TILE, True
            )
        else:
            P, A, B = average(
                log_w, u, P, A, B, k_ptr, v_ptr, y_ptr, resets_ptr, t0, T, C, channel, TILE, False
            )
        k_ptr += TILE * C
        v_ptr += TILE * C
        y_ptr += TILE * C

    if end == T:
        tl.store(after_num_ptr + b * C + channel, A, mask=inside)
        tl.store(after_den_ptr + b * C + channel, B, mask=inside)
        tl.store(after_log_scale_ptr + b * C + channel, P, mask=inside)
