"""The kernels of `norm_shift_mix` on a GPU.

A program walks over up to `tokens` neighbouring tokens of one sequence and holds a whole row of
`BLOCK` ≥ C channels. So a token is read once, but that the one before the first is read again by
the next program. All arrays are contiguous, all arithmetic is float32.
"""

import triton
import triton.language as tl

# Channels up to which a program holds the vectors too; wider ones are read again for each token,
# from the cache, since registers would be read from there as well.
MOST_HELD = tl.constexpr(4096)


@triton.jit
def _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C):
    """Return the mixes; where there are two, the third is the second."""
    mix_0 = tl.load(mix_0_ptr + c, mask=c < C, other=0.0)
    mix_1 = tl.load(mix_1_ptr + c, mask=c < C, other=0.0)
    return mix_0, mix_1, tl.load(mix_2_ptr + c, mask=c < C, other=0.0)


@triton.jit
def _mixed(n, n_prev, mix):
    return n_prev + mix * (n - n_prev)


@triton.jit
def _moments(x, inside, C, eps):
    """Return the mean of a row and the reciprocal of its deviation."""
    mean = tl.sum(x, axis=0) / C
    centred = tl.where(inside, x - mean, 0.0)
    return mean, 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / C + eps)


# fmt: off
@triton.jit(do_not_specialize=["T", "tokens"])
def forward(
    x_ptr, weight_ptr, bias_ptr, mix_0_ptr, mix_1_ptr, mix_2_ptr, x_last_ptr, resets_ptr,
    out_0_ptr, out_1_ptr, out_2_ptr, last_ptr, mean_ptr, rstd_ptr, eps, T, C, tokens,
    HAS_RESETS: tl.constexpr, HAS_THIRD: tl.constexpr, BLOCK: tl.constexpr,
):
    # fmt: on
    """Write what enters the matrices, the last token normalised, and two numbers a token.

    Reads x once (and a row a program again), writes each of the mixed once.
    """
    chunks = tl.cdiv(T, tokens)
    b = (tl.program_id(0) // chunks).to(tl.int64)
    begin = tl.program_id(0) % chunks * tokens
    end = tl.minimum(begin + tokens, T)
    c = tl.arange(0, BLOCK)
    inside = c < C
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0)
    mix_0, mix_1, mix_2 = _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C)
    if begin == 0:
        n_prev = tl.load(x_last_ptr + b * C + c, mask=inside, other=0.0)
    else:
        x = tl.load(x_ptr + (b * T + begin - 1) * C + c, mask=inside, other=0.0)
        mean, rstd = _moments(x, inside, C, eps)
        n_prev = (x - mean) * rstd * weight + bias
    for t in range(begin, end):
        row = b * T + t
        if BLOCK > MOST_HELD:
            mix_0, mix_1, mix_2 = _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C)
        x = tl.load(x_ptr + row * C + c, mask=inside, other=0.0)
        mean, rstd = _moments(x, inside, C, eps)
        n = (x - mean) * rstd * weight + bias
        if HAS_RESETS:
            n_prev = tl.where(tl.load(resets_ptr + row) != 0, 0.0, n_prev)
        out = out_0_ptr.dtype.element_ty
        tl.store(out_0_ptr + row * C + c, _mixed(n, n_prev, mix_0).to(out), mask=inside)
        tl.store(out_1_ptr + row * C + c, _mixed(n, n_prev, mix_1).to(out), mask=inside)
        if HAS_THIRD:
            tl.store(out_2_ptr + row * C + c, _mixed(n, n_prev, mix_2).to(out), mask=inside)
        tl.store(mean_ptr + row, mean)
        tl.store(rstd_ptr + row, rstd)
        n_prev = n
    if end == T:
        tl.store(last_ptr + b * C + c, n_prev, mask=inside)


@triton.jit
def _given_back(at, here, d0_ptr, d1_ptr, d2_ptr, mix_0, mix_1, mix_2, HAS_THIRD: tl.constexpr):
    """Return Σ (1 - mix) d of a row, what it gives to the token before; 0 where not `here`."""
    total = (1 - mix_0) * tl.load(d0_ptr + at, mask=here, other=0.0).to(tl.float32)
    total += (1 - mix_1) * tl.load(d1_ptr + at, mask=here, other=0.0).to(tl.float32)
    if HAS_THIRD:
        total += (1 - mix_2) * tl.load(d2_ptr + at, mask=here, other=0.0).to(tl.float32)
    return total


@triton.jit
def _through_norm(dn, hat, weight, rstd, C):
    """Return rstd (w dn - mean(w dn) - x̂ mean(w dn x̂))."""
    dn *= weight
    return rstd * (dn - tl.sum(dn, axis=0) / C - hat * (tl.sum(dn * hat, axis=0) / C))


# fmt: off
@triton.jit(do_not_specialize=["T"])
def backward_of_last(
    mix_0_ptr, mix_1_ptr, mix_2_ptr, resets_ptr, d0_ptr, d1_ptr, d2_ptr, grad_x_last_ptr, T, C,
    HAS_RESETS: tl.constexpr, HAS_THIRD: tl.constexpr, BLOCK: tl.constexpr,
):
    # fmt: on
    """Write the gradient of x_last, Σ (1 - mix) d_0, or 0 before a reset. Reads a row of each d."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < C
    mix_0, mix_1, mix_2 = _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C)
    here = inside
    if HAS_RESETS:
        here = c < tl.where(tl.load(resets_ptr + b * T) == 0, C, 0)
    at = b * T * C + c
    grad = _given_back(at, here, d0_ptr, d1_ptr, d2_ptr, mix_0, mix_1, mix_2, HAS_THIRD)
    tl.store(grad_x_last_ptr + b * C + c, grad, mask=inside)


@triton.jit
def _write_sums(sums_ptr, c, C, for_weight, for_bias, for_0, for_1, for_2, HAS_THIRD: tl.constexpr):
    """Write a program's sums, [2 + mixes, C]."""
    to = sums_ptr + tl.program_id(0).to(tl.int64) * (5 if HAS_THIRD else 4) * C + c
    tl.store(to, for_weight, mask=c < C)
    tl.store(to + C, for_bias, mask=c < C)
    tl.store(to + 2 * C, for_0, mask=c < C)
    tl.store(to + 3 * C, for_1, mask=c < C)
    if HAS_THIRD:
        tl.store(to + 4 * C, for_2, mask=c < C)


# fmt: off
@triton.jit(do_not_specialize=["T", "tokens"])
def backward(
    x_ptr, weight_ptr, bias_ptr, mix_0_ptr, mix_1_ptr, mix_2_ptr, x_last_ptr, resets_ptr,
    mean_ptr, rstd_ptr, d0_ptr, d1_ptr, d2_ptr, grad_last_ptr, grad_x_ptr, sums_ptr, T, C, tokens,
    HAS_RESETS: tl.constexpr, HAS_THIRD: tl.constexpr, HAS_LAST: tl.constexpr,
    WANTS_SUMS: tl.constexpr, BLOCK: tl.constexpr,
):
    # fmt: on
    """Write the gradient of x, and of a program's tokens the sums for the vectors.

    With d the gradients of the mixed, dn that of n, and x̂ = (x - mean) rstd:

        dn_t  = Σ mix d_t + Σ (1 - mix) d_{t+1}                     (no second part before a reset)
        dx_t  = rstd (w dn - mean(w dn) - x̂ mean(w dn x̂))
        sums  = Σ_t of dn x̂, dn, and for each mix d (n_t - n_{t-1})    [programs, 2 + mixes, C]

    Reads x and each d once (and a row a program again), writes the gradient of x once. Sums that
    are not wanted are those of `sum_channels`.
    """
    chunks = tl.cdiv(T, tokens)
    b = (tl.program_id(0) // chunks).to(tl.int64)
    begin = tl.program_id(0) % chunks * tokens
    c = tl.arange(0, BLOCK)
    inside = c < C
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0)
    mix_0, mix_1, mix_2 = _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C)
    if not WANTS_SUMS:
        n_prev = bias
    elif begin == 0:
        n_prev = tl.load(x_last_ptr + b * C + c, mask=inside, other=0.0)
    else:
        row = b * T + begin - 1
        x = tl.load(x_ptr + row * C + c, mask=inside, other=0.0)
        n_prev = (x - tl.load(mean_ptr + row)) * tl.load(rstd_ptr + row) * weight + bias
    for_weight, for_bias = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for_0, for_1, for_2 = for_weight, for_weight, for_weight
    for t in range(begin, tl.minimum(begin + tokens, T)):
        row = b * T + t
        at = row * C + c
        if BLOCK > MOST_HELD:
            weight = tl.load(weight_ptr + c, mask=inside, other=0.0)
            mix_0, mix_1, mix_2 = _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C)
        x = tl.load(x_ptr + at, mask=inside, other=0.0)
        rstd = tl.load(rstd_ptr + row)
        hat = tl.where(inside, (x - tl.load(mean_ptr + row)) * rstd, 0.0)
        n = hat * weight + bias
        has_next = row + 1 < (b + 1) * T
        dn = tl.zeros([BLOCK], tl.float32)
        if HAS_LAST:
            dn = tl.load(grad_last_ptr + b * C + c, mask=c < tl.where(has_next, 0, C), other=0.0)
        if HAS_RESETS:
            n_prev = tl.where(tl.load(resets_ptr + row) != 0, 0.0, n_prev)
            has_next = has_next & (tl.load(resets_ptr + row + 1, mask=has_next, other=1) == 0)
        here = c < tl.where(has_next, C, 0)
        dn += _given_back(at + C, here, d0_ptr, d1_ptr, d2_ptr, mix_0, mix_1, mix_2, HAS_THIRD)
        d = tl.load(d0_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dn += mix_0 * d
        for_0 += d * (n - n_prev)
        d = tl.load(d1_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dn += mix_1 * d
        for_1 += d * (n - n_prev)
        if HAS_THIRD:
            d = tl.load(d2_ptr + at, mask=inside, other=0.0).to(tl.float32)
            dn += mix_2 * d
            for_2 += d * (n - n_prev)
        for_weight += dn * hat
        for_bias += dn
        tl.store(grad_x_ptr + at, _through_norm(dn, hat, weight, rstd, C), mask=inside)
        n_prev = n
    if WANTS_SUMS:
        _write_sums(sums_ptr, c, C, for_weight, for_bias, for_0, for_1, for_2, HAS_THIRD)


# fmt: off
@triton.jit(do_not_specialize=["T", "tokens"])
def sum_channels(
    x_ptr, weight_ptr, bias_ptr, mix_0_ptr, mix_1_ptr, mix_2_ptr, x_last_ptr, resets_ptr,
    mean_ptr, rstd_ptr, d0_ptr, d1_ptr, d2_ptr, grad_last_ptr, sums_ptr, T, C, tokens,
    HAS_RESETS: tl.constexpr, HAS_THIRD: tl.constexpr, HAS_LAST: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # fmt: on
    """Write the sums of `backward`, of up to `tokens` tokens and a block of channels a program.

    Has `ROWS` tokens at a time. Reads x and each d once, and rows of neighbours again, when they
    are near.
    Grid: (chunks of tokens × B, blocks of channels).
    """
    chunks = tl.cdiv(T, tokens)
    b = (tl.program_id(0) // chunks).to(tl.int64)
    begin = tl.program_id(0) % chunks * tokens
    end = tl.minimum(begin + tokens, T)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (c < C)[None, :]
    weight = tl.load(weight_ptr + c, mask=c < C, other=0.0)[None, :]
    bias = tl.load(bias_ptr + c, mask=c < C, other=0.0)[None, :]
    mix_0, mix_1, mix_2 = _mixes(mix_0_ptr, mix_1_ptr, mix_2_ptr, c, C)
    mix_0, mix_1, mix_2 = mix_0[None, :], mix_1[None, :], mix_2[None, :]
    n_first = tl.load(x_last_ptr + b * C + c, mask=c < C, other=0.0)[None, :]
    for_weight = tl.zeros([ROWS, BLOCK], tl.float32)
    for_bias, for_0, for_1, for_2 = for_weight, for_weight, for_weight, for_weight
    for t0 in range(begin, end, ROWS):
        t = t0 + tl.arange(0, ROWS)[:, None]
        row = b * T + t
        at = row * C + c[None, :]
        there = (t < end) & inside
        x = tl.load(x_ptr + at, mask=there, other=0.0)
        mean = tl.load(mean_ptr + row, mask=t < end, other=0.0)
        hat = (x - mean) * tl.load(rstd_ptr + row, mask=t < end, other=0.0)
        has_prev = (t > 0) & (t < end)
        x = tl.load(x_ptr + at - C, mask=has_prev & inside, other=0.0)
        mean = tl.load(mean_ptr + row - 1, mask=has_prev, other=0.0)
        n_prev = (x - mean) * tl.load(rstd_ptr + row - 1, mask=has_prev, other=0.0) * weight + bias
        n_prev = tl.where(t == 0, n_first, n_prev)
        has_next = t + 1 < tl.minimum(end + 1, T)
        if HAS_RESETS:
            n_prev = tl.where(tl.load(resets_ptr + row, mask=t < end, other=0) != 0, 0.0, n_prev)
            has_next = has_next & (tl.load(resets_ptr + row + 1, mask=has_next, other=1) == 0)
        change = hat * weight + bias - n_prev
        here = has_next & inside
        dn = _given_back(at + C, here, d0_ptr, d1_ptr, d2_ptr, mix_0, mix_1, mix_2, HAS_THIRD)
        if HAS_LAST:
            grad_last = tl.load(grad_last_ptr + b * C + c, mask=c < C, other=0.0)[None, :]
            dn += tl.where((t == T - 1) & (t < end), grad_last, 0.0)
        d = tl.load(d0_ptr + at, mask=there, other=0.0).to(tl.float32)
        dn += mix_0 * d
        for_0 += d * change
        d = tl.load(d1_ptr + at, mask=there, other=0.0).to(tl.float32)
        dn += mix_1 * d
        for_1 += d * change
        if HAS_THIRD:
            d = tl.load(d2_ptr + at, mask=there, other=0.0).to(tl.float32)
            dn += mix_2 * d
            for_2 += d * change
        for_weight += dn * hat
        for_bias += dn
    for_weight, for_bias = tl.sum(for_weight, axis=0), tl.sum(for_bias, axis=0)
    for_0, for_1, for_2 = tl.sum(for_0, axis=0), tl.sum(for_1, axis=0), tl.sum(for_2, axis=0)
    _write_sums(sums_ptr, c, C, for_weight, for_bias, for_0, for_1, for_2, HAS_THIRD)
