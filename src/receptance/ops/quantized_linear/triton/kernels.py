"""The kernels of `quantized_linear` on a GPU: rows to 8 bits, and the product of integers.

Blocks are 32 columns, of x as of the product's steps; `layout.py` says what a packed matrix is.
"""

import triton
import triton.language as tl


@triton.jit
def quantize(x_ptr, levels_ptr, scales_ptr, K, n_blocks, BLOCKS: tl.constexpr):
    """Write `BLOCKS` blocks of a row x as integers, and the scale of each.

        s_b = max |x| / 127,   level = round(x · (1 / s_b)), halves to even; 0 if s_b is subnormal

    Columns from K to the last block's end are 0. A block that holds what is not finite has the
    scale NaN. Reads x once, writes a byte a number and 4 a block.
    """
    row = tl.program_id(0).to(tl.int64)
    b = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    column = b[:, None] * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(x_ptr + row * K + column, mask=column < K, other=0.0)
    is_finite = tl.min((tl.abs(x) < float("inf")).to(tl.int32), axis=1)
    x = tl.where(tl.expand_dims(is_finite, 1) == 1, x, 0.0)
    s = tl.div_rn(tl.max(tl.abs(x), axis=1), 127.0)
    is_large = s >= 1.1754943508222875e-38  # the inverse of a smaller one may be infinite
    inverse = tl.div_rn(1.0, tl.where(is_large, s, 1.0))
    # Added to 1.5 · 2^23 a number of up to 2^22 loses its fraction, halves to even.
    rounded = (x * inverse[:, None] + 12582912.0) - 12582912.0
    levels = tl.where(is_large[:, None], rounded, 0.0)
    s = tl.where(is_finite == 1, tl.where(is_large, s, 0.0), float("nan"))
    to = row * n_blocks * 32 + column
    tl.store(levels_ptr + to, levels.to(tl.int8), mask=column < n_blocks * 32)
    tl.store(scales_ptr + row * n_blocks + b, s, mask=b < n_blocks)


# fmt: off
@triton.jit
def product(
    levels_ptr, scales_ptr, weight_ptr, out_ptr, M, N, n_groups,
    BITS: tl.constexpr, GROUP: tl.constexpr, HAS_OFFSET: tl.constexpr,
    ROWS: tl.constexpr, PANELS: tl.constexpr,
):
    # fmt: on
    """Write y = x̂ Ŵᵀ for `ROWS` rows of x̂ and `PANELS` panels of 32 rows of Ŵ.

        y = Σ_b s_b (scale Σ_k level_k (q_k - z) + offset Σ_k level_k)

    Sums over a block are of integers, those over blocks float32, in the order of the columns: a row
    of y does not depend on the other rows. Reads x̂ once for each `PANELS` panels and Ŵ once for
    each `ROWS` rows, and writes y once.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m = tl.minimum(row, M - 1).to(tl.int64)
    n = tl.program_id(1) * (32 * PANELS) + tl.arange(0, 32 * PANELS)
    panel = tl.minimum(n // 32, (N - 1) // 32).to(tl.int64)
    head_bytes = 128 if HAS_OFFSET else 64
    block_bytes = head_bytes + 4 * GROUP * BITS
    blocks_of_group = GROUP // 32
    n_blocks = n_groups * blocks_of_group
    k = tl.arange(0, 32)
    # Where column k's level is: quads of columns, or pairs of them with one in each half of a byte.
    in_block = (k // (32 // BITS) * 128 + k % 4)[:, None] + (n % 32)[None, :] * 4
    total = tl.zeros([ROWS, 32 * PANELS], tl.float32)
    for g in range(n_groups):
        group_ptr = weight_ptr + (panel * n_groups + g) * block_bytes
        heads = group_ptr.to(tl.pointer_type(tl.bfloat16)) + n % 32
        scale = tl.load(heads).to(tl.float32)
        for i in range(blocks_of_group):
            b = m * n_blocks + g * blocks_of_group + i
            x = tl.load(levels_ptr + b[:, None] * 32 + k[None, :])
            s = tl.load(scales_ptr + b)
            q = tl.load(group_ptr[None, :] + head_bytes + i * (128 * BITS) + in_block).to(tl.int32)
            q = q - 128 if BITS == 8 else ((q >> (k // 4 % 2 * 4)[:, None]) & 15) - 8
            sums = tl.dot(x, q.to(tl.int8), out_dtype=tl.int32).to(tl.float32) * scale[None, :]
            if HAS_OFFSET:
                offset = tl.load(heads + 32).to(tl.float32)
                sums += offset[None, :] * tl.sum(x.to(tl.int32), axis=1).to(tl.float32)[:, None]
            total += s[:, None] * sums
    to = row.to(tl.int64)[:, None] * N + n[None, :]
    tl.store(out_ptr + to, total, mask=(row < M)[:, None] & (n < N)[None, :])
