"""The step's kernels: what each program reads and writes. `launch.py` says in which order they run.

Dimensions
    B  sequences of the step       C  channels                  V  vocabulary
    N  rows of a matrix            K  its columns               G  its groups of a row

Where matrices are numbers (BITS is 0), what enters them is numbers of their dtype, [B, K]. Where
they are levels (BITS is 4 or 8; receptance.ops.quantized_linear.layout), it is rounded to levels
too, int8 [B, K padded to whole groups], with a scale in float32 for each 32 of them. All else is
float32. A row of B is the memory of slot `rows[b]` of the pool, or of none where that is -1.
"""

# Triton's loops and constants are not Python's.
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def _sigmoid(r):
    z = tl.exp(-tl.abs(r))  # of what cannot overflow
    return tl.where(r < 0, z, 1.0) / (1.0 + z)


@triton.jit
def _levels(blocks):
    """Return x̂ of blocks [X, 32] as levels int8 [X, 32] and scales [X]."""
    size = tl.abs(blocks)
    # What is not finite makes the scale NaN, and with it all that the block enters.
    largest = tl.max(tl.where(size < float("inf"), size, float("inf")), axis=1)
    is_finite = largest < float("inf")
    scale = tl.div_rn(tl.where(is_finite, largest, 0.0), 127.0)
    is_zero = scale < 1.1754943508222875e-38  # the inverse of a smaller one may be infinite
    inverse = tl.div_rn(1.0, tl.where(is_zero, 1.0, scale))
    inside = tl.where((is_finite & (scale >= 1.1754943508222875e-38))[:, None], blocks, 0.0)
    # Adding and taking away 1.5 · 2^23 leaves the nearest integer, of two the even one.
    nearest = (inside * inverse[:, None] + 12582912.0) - 12582912.0
    scale = tl.where(is_zero, 0.0, scale)
    return nearest.to(tl.int8), tl.where(is_finite, scale, float("nan"))


@triton.jit
def _put(values, to_ptr, scales_ptr, b, n, B, N, N_pad, BITS: tl.constexpr):
    """Write a tile [ROWS, BLOCK_N] of what enters a matrix; BLOCK_N is 32 where BITS is not 0."""
    mask = (b < B)[:, None] & (n < N)[None, :]
    at = b[:, None].to(tl.int64) * N_pad + n[None, :]
    if BITS == 0:
        tl.store(to_ptr + at, values.to(to_ptr.dtype.element_ty), mask=mask)
    else:
        levels, scales = _levels(tl.where(mask, values, 0.0))
        tl.store(to_ptr + at, levels, mask=mask)
        first = tl.min(n, axis=0)
        block = b.to(tl.int64) * (N_pad // 32) + first // 32
        tl.store(scales_ptr + block, scales, mask=b < tl.where(first < N, B, 0))


@triton.jit
def _rounded(y, like_ptr):
    """Return y rounded to the dtype of a matrix; float16 ends too soon, and y stays as it is."""
    if like_ptr.dtype.element_ty != tl.float16:
        y = y.to(like_ptr.dtype.element_ty).to(tl.float32)
    return y


@triton.jit
def _product_of_numbers(
    x_ptr, w_ptr, b, n, B, N, K,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Return x Wᵀ [ROWS, BLOCK_N], summed in float32 and rounded as a model's products are."""
    acc = tl.zeros([ROWS, BLOCK_N], tl.float32)
    x_at = x_ptr + b[:, None].to(tl.int64) * K
    w_at = w_ptr + n[:, None].to(tl.int64) * K
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        x = tl.load(x_at + k[None, :], mask=(b < B)[:, None] & (k < K)[None, :], other=0.0)
        w = tl.load(w_at + k[None, :], mask=(n < N)[:, None] & (k < K)[None, :], other=0.0)
        acc = tl.dot(x, tl.trans(w), acc, input_precision="ieee")
    return _rounded(acc, x_ptr)


@triton.jit
def _product_of_levels(
    x_ptr, scales_ptr, w_ptr, numbers_ptr, b, panel, B, K_pad,
    BITS: tl.constexpr, GROUP: tl.constexpr, OFFSET: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Return x̂ Ŵᵀ [ROWS, 32] of the rows of one panel.

    The levels of 32 columns are multiplied as integers, exactly; the scaled sums are added in
    float32 in the order of the columns. A panel is read from its first byte to its last, in words.
    """
    PER_GROUP: tl.constexpr = GROUP // 32
    HEAD: tl.constexpr = 32 * (1 + OFFSET)  # numbers of two bytes before the levels of a group
    WORDS: tl.constexpr = 8 * BITS * PER_GROUP * 4  # levels of a group: 32 rows, 4 bytes a word
    acc = tl.zeros([ROWS, 32], tl.float32)
    lane = tl.arange(0, 32)
    n_blocks = K_pad // 32
    group_0 = panel.to(tl.int64) * (K_pad // GROUP)
    x_at = x_ptr + b[:, None].to(tl.int64) * K_pad + lane[None, :]
    scale_at = scales_ptr + b.to(tl.int64) * n_blocks
    for first in range(0, n_blocks, BLOCK_K // 32):
        for step in tl.static_range(BLOCK_K // 32):
            block = first + step
            lanes = tl.where(block < n_blocks, 32, 0)  # of the rows of the panel
            group = group_0 + block // PER_GROUP
            mask = b < tl.where(block < n_blocks, B, 0)
            x = tl.load(x_at + block * 32, mask=mask[:, None], other=0)
            x_scale = tl.load(scale_at + block, mask=mask, other=0.0)
            head = numbers_ptr + group * (HEAD + WORDS * 2) + lane
            w_scale = tl.load(head, mask=lane < lanes, other=0.0).to(tl.float32)
            words_at = w_ptr + group * (HEAD // 2 + WORDS) + HEAD // 2
            words_at += (block % PER_GROUP) * (WORDS // PER_GROUP)
            w = _levels_of_words(words_at, lanes, BITS)
            total = tl.dot(x, w, out_dtype=tl.int32).to(tl.float32)
            acc += total * w_scale[None, :] * x_scale[:, None]
            if OFFSET:
                offset = tl.load(head + 32, mask=lane < lanes, other=0.0)
                x_sum = tl.sum(x.to(tl.int32), axis=1).to(tl.float32) * x_scale
                acc += x_sum[:, None] * offset.to(tl.float32)[None, :]
    return acc


@triton.jit
def _levels_of_words(words_at, lanes, BITS: tl.constexpr):
    """Return q - z of 32 columns of a panel, int8 [column, row]."""
    lane, byte = tl.arange(0, 32), tl.arange(0, 4)
    if BITS == 8:  # [quad of columns][row], a byte for each of the four columns
        quad = tl.arange(0, 8)
        at = words_at + quad[:, None] * 32 + lane[None, :]
        words = tl.load(at, mask=(lane < lanes)[None, :], other=0)
        levels = ((words[:, None, :] >> (8 * byte)[None, :, None]) & 255) - 128
    else:  # [pair of quads][row], low halves for the first quad and high ones for the second
        pair, half = tl.arange(0, 4), tl.arange(0, 2)
        at = words_at + pair[:, None] * 32 + lane[None, :]
        words = tl.load(at, mask=(lane < lanes)[None, :], other=0)
        shift = 4 * half[None, :, None, None] + 8 * byte[None, None, :, None]
        levels = ((words[:, None, None, :] >> shift) & 15) - 8
    return tl.reshape(levels, [32, 32]).to(tl.int8)


@triton.jit
def _product(
    x_ptr, scales_ptr, w_ptr, numbers_ptr, b, block, B, N, K, K_pad,
    BITS: tl.constexpr, GROUP: tl.constexpr, OFFSET: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Return the tile [ROWS, BLOCK_N] of y, at the rows b and the block-th columns."""
    if BITS == 0:
        n = block * BLOCK_N + tl.arange(0, BLOCK_N)
        y = _product_of_numbers(
            x_ptr, w_ptr, b, n, B, N, K, ROWS, BLOCK_N, BLOCK_K
        )  # fmt: skip
    else:
        y = _product_of_levels(
            x_ptr, scales_ptr, w_ptr, numbers_ptr, b, block, B, K_pad,
            BITS, GROUP, OFFSET, ROWS, BLOCK_K,
        )  # fmt: skip
    return y


@triton.jit
def _embedded(embedding_ptr, numbers_ptr, token, c, mask, C, BITS: tl.constexpr,
              GROUP: tl.constexpr, OFFSET: tl.constexpr):  # fmt: skip
    """Return the channels c of a token's row, in float32."""
    if BITS == 0:
        x = tl.load(embedding_ptr + token * C + c, mask=mask, other=0.0).to(tl.float32)
    else:
        n_groups = tl.cdiv(C, GROUP)
        head = n_groups * (1 + OFFSET)  # numbers before the levels
        row_bytes = 2 * head + n_groups * GROUP * BITS // 8
        at = embedding_ptr + token * row_bytes + 2 * head + c * BITS // 8
        levels = tl.load(at, mask=mask, other=0).to(tl.int32)
        if BITS == 4:
            levels = (levels >> (c % 2 * 4)) & 15
        scale_at = numbers_ptr + token * (row_bytes // 2) + c // GROUP
        scale = tl.load(scale_at, mask=mask, other=0.0).to(tl.float32)
        x = scale * (levels - (1 << (BITS - 1))).to(tl.float32)
        if OFFSET:
            x += tl.load(scale_at + n_groups, mask=mask, other=0.0).to(tl.float32)
    return x


@triton.jit
def embed_kernel(
    tokens_ptr, slots_ptr, embedding_ptr, numbers_ptr, weight_ptr, bias_ptr, x_ptr, rows_ptr,
    V, n_slots, C, eps,
    HAS_NORM: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (b, share) writes BLOCK channels of x[b], and rows[b].

    A token or a slot that is not there makes x[b] NaN and rows[b] -1: no memory is touched.
    """
    b = tl.program_id(0)
    token, slot = tl.load(tokens_ptr + b), tl.load(slots_ptr + b)
    is_there = (token >= 0) & (token < V) & (slot >= 0) & (slot < n_slots)
    token = tl.where(is_there, token, 0)
    tl.store(rows_ptr + b, tl.where(is_there, slot, -1))
    lane = tl.arange(0, BLOCK)
    c = tl.program_id(1) * BLOCK + lane
    x = _embedded(embedding_ptr, numbers_ptr, token, c, c < C, C, BITS, GROUP, OFFSET)
    if HAS_NORM:
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, C, BLOCK):
            at = first + lane
            total += _embedded(
                embedding_ptr, numbers_ptr, token, at, at < C, C, BITS, GROUP, OFFSET
            )  # fmt: skip
        mean = tl.sum(total, axis=0) / C
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, C, BLOCK):
            at = first + lane
            part = _embedded(
                embedding_ptr, numbers_ptr, token, at, at < C, C, BITS, GROUP, OFFSET
            )  # fmt: skip
            total += tl.where(at < C, (part - mean) * (part - mean), 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(total, axis=0) / C + eps)
        weight = tl.load(weight_ptr + c, mask=c < C, other=0.0)
        x = (x - mean) * rstd * weight + tl.load(bias_ptr + c, mask=c < C, other=0.0)
    x = tl.where(is_there, x, float("nan"))
    tl.store(x_ptr + b.to(tl.int64) * C + c, x, mask=c < C)


@triton.jit
def norm_mix_kernel(
    x_ptr, weight_ptr, bias_ptr, mixes_ptr, shift_ptr, rows_ptr, to_ptr, scales_ptr,
    plane, C, C_pad, eps,
    MIXES: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (b, share) writes BLOCK channels of n = LayerNorm(x[b]), or of its MIXES blends.

    Each program reads the whole of x[b]. With blends it reads and replaces its channels of the
    pool's row shift[rows[b]], the n of the token before; those of blend i are at to + i · plane.
    """
    b = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    x_at = x_ptr + b.to(tl.int64) * C
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, C, BLOCK):
        total += tl.load(x_at + first + lane, mask=first + lane < C, other=0.0)
    mean = tl.sum(total, axis=0) / C
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, C, BLOCK):
        part = tl.load(x_at + first + lane, mask=first + lane < C, other=0.0) - mean
        total += tl.where(first + lane < C, part * part, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(total, axis=0) / C + eps)

    c = tl.program_id(1) * BLOCK + lane
    mask = c < C
    n = (tl.load(x_at + c, mask=mask, other=0.0) - mean) * rstd
    n = n * tl.load(weight_ptr + c, mask=mask, other=0.0)
    n = n + tl.load(bias_ptr + c, mask=mask, other=0.0)
    if MIXES == 0:
        _put_row(n, to_ptr, scales_ptr, b, c, C, C_pad, BITS, BLOCK)
    else:
        slot = tl.load(rows_ptr + b)
        shift_at = shift_ptr + slot * C + c
        is_there = c < tl.where(slot >= 0, C, 0)
        last = tl.load(shift_at, mask=is_there, other=0.0)
        tl.store(shift_at, n, mask=is_there)
        for i in tl.static_range(MIXES):
            mix = tl.load(mixes_ptr + i * C + c, mask=mask, other=0.0)
            blend = last + mix * (n - last)
            to, scales = to_ptr + i * plane, scales_ptr + i * (plane // 32)
            _put_row(blend, to, scales, b, c, C, C_pad, BITS, BLOCK)


@triton.jit
def _put_row(values, to_ptr, scales_ptr, b, c, C, C_pad, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Write BLOCK channels of row b of what enters a matrix."""
    at = to_ptr + b.to(tl.int64) * C_pad
    if BITS == 0:
        tl.store(at + c, values.to(to_ptr.dtype.element_ty), mask=c < C)
    else:
        blocks = tl.reshape(tl.where(c < C, values, 0.0), [BLOCK // 32, 32])
        levels, scales = _levels(blocks)
        tl.store(at + c, tl.reshape(levels, [BLOCK]), mask=c < C)
        i = tl.program_id(1) * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
        scales_at = scales_ptr + b.to(tl.int64) * (C_pad // 32) + i
        tl.store(scales_at, scales, mask=i < tl.cdiv(C, 32))


@triton.jit(do_not_specialize=["B"])
def time_mix_kernel(
    x_ptr, scales_ptr, key_ptr, key_numbers_ptr, value_ptr, value_numbers_ptr,
    receptance_ptr, receptance_numbers_ptr, log_w_ptr, u_ptr, num_ptr, den_ptr, log_scale_ptr,
    rows_ptr, to_ptr, to_scales_ptr, plane, B, C, C_pad,
    BITS: tl.constexpr, GROUP: tl.constexpr, OFFSET: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A program writes σ(r) ⊙ wkv for ROWS sequences and BLOCK_N channels, and their sums.

    It reads those rows of three matrices, all columns, and its channels of the pool's sums.
    """
    tiles = tl.cdiv(B, ROWS)
    block = tl.program_id(0) // tiles
    b = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    k = _product(
        x_ptr, scales_ptr, key_ptr, key_numbers_ptr, b, block, B, C, C, C_pad,
        BITS, GROUP, OFFSET, ROWS, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    v = _product(
        x_ptr + plane, scales_ptr + plane // 32, value_ptr, value_numbers_ptr, b, block, B, C, C,
        C_pad, BITS, GROUP, OFFSET, ROWS, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    r = _product(
        x_ptr + 2 * plane, scales_ptr + 2 * (plane // 32), receptance_ptr, receptance_numbers_ptr,
        b, block, B, C, C, C_pad, BITS, GROUP, OFFSET, ROWS, BLOCK_N, BLOCK_K,
    )  # fmt: skip

    n = block * BLOCK_N + tl.arange(0, BLOCK_N)
    slot = tl.load(rows_ptr + b, mask=b < B, other=-1)
    mask = (slot >= 0)[:, None] & (n < C)[None, :]
    at = slot[:, None] * C + n[None, :]
    num = tl.load(num_ptr + at, mask=mask, other=0.0)
    den = tl.load(den_ptr + at, mask=mask, other=0.0)
    scale = tl.load(log_scale_ptr + at, mask=mask, other=-1e38)
    now = k + tl.load(u_ptr + n, mask=n < C, other=0.0)[None, :]
    q = tl.maximum(scale, now)
    e_past, e_now = tl.exp(scale - q), tl.exp(now - q)
    y = (e_past * num + e_now * v) / (e_past * den + e_now)
    if BITS == 0:
        y = _rounded(y, to_ptr)
    _put(_sigmoid(r) * y, to_ptr, to_scales_ptr, b, n, B, C, C_pad, BITS)

    faded = scale + tl.load(log_w_ptr + n, mask=n < C, other=0.0)[None, :]
    q = tl.maximum(faded, k)
    e_past, e_now = tl.exp(faded - q), tl.exp(k - q)
    tl.store(num_ptr + at, e_past * num + e_now * v, mask=mask)
    tl.store(den_ptr + at, e_past * den + e_now, mask=mask)
    tl.store(log_scale_ptr + at, q, mask=mask)


@triton.jit(do_not_specialize=["B"])
def channel_mix_kernel(
    x_ptr, scales_ptr, key_ptr, key_numbers_ptr, receptance_ptr, receptance_numbers_ptr,
    to_ptr, to_scales_ptr, r_ptr, plane, B, C, C_pad, H, H_pad, ROOT: tl.constexpr,
    BITS: tl.constexpr, GROUP: tl.constexpr, OFFSET: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A program writes (ROOT max(k, 0))² for ROWS sequences, BLOCK_N of H columns; or r, of C."""
    tiles = tl.cdiv(B, ROWS)
    block = tl.program_id(0) // tiles
    b = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    key_blocks = tl.cdiv(H, BLOCK_N)
    if block < key_blocks:
        k = _product(
            x_ptr, scales_ptr, key_ptr, key_numbers_ptr, b, block, B, H, C, C_pad,
            BITS, GROUP, OFFSET, ROWS, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        root = tl.where(k < 0, 0.0, k) * ROOT  # NaN stays
        n = block * BLOCK_N + tl.arange(0, BLOCK_N)
        _put(root * root, to_ptr, to_scales_ptr, b, n, B, H, H_pad, BITS)
    else:
        block = block - key_blocks
        r = _product(
            x_ptr + plane, scales_ptr + plane // 32, receptance_ptr, receptance_numbers_ptr, b,
            block, B, C, C, C_pad, BITS, GROUP, OFFSET, ROWS, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        n = block * BLOCK_N + tl.arange(0, BLOCK_N)
        mask = (b < B)[:, None] & (n < C)[None, :]
        tl.store(r_ptr + b[:, None].to(tl.int64) * C + n[None, :], r, mask=mask)


@triton.jit(do_not_specialize=["B"])
def product_kernel(
    in_ptr, scales_ptr, w_ptr, numbers_ptr, r_ptr, to_ptr, B, N, K, K_pad,
    ADDS: tl.constexpr, HAS_GATE: tl.constexpr, SQUARE: tl.constexpr,
    BITS: tl.constexpr, GROUP: tl.constexpr, OFFSET: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A program writes ROWS sequences and BLOCK_N columns of y = SQUARE · in Wᵀ, or adds them.

    With a gate it adds σ(r) ⊙ y. What is written is float32 [B, N].
    """
    tiles = tl.cdiv(B, ROWS)
    block = tl.program_id(0) // tiles
    b = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    y = _product(
        in_ptr, scales_ptr, w_ptr, numbers_ptr, b, block, B, N, K, K_pad,
        BITS, GROUP, OFFSET, ROWS, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    n = block * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (b < B)[:, None] & (n < N)[None, :]
    at = b[:, None].to(tl.int64) * N + n[None, :]
    y = y * SQUARE
    if HAS_GATE:
        y = _sigmoid(tl.load(r_ptr + at, mask=mask, other=0.0)) * y
    if ADDS:
        y = y + tl.load(to_ptr + at, mask=mask, other=0.0)
    tl.store(to_ptr + at, y, mask=mask)
