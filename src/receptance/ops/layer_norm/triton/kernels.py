"""The kernels of `layer_norm` on a GPU: one pass over memory forward and one backward.

A program walks over up to `rows` neighbouring rows and holds a whole one, of `BLOCK` ≥ C channels.
All arrays are contiguous, all arithmetic is float32.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["N", "rows"])
def forward(
    x_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    mean_ptr,
    rstd_ptr,
    eps,
    N,
    C,
    rows,
    BLOCK: tl.constexpr,
):
    """Write the rows normalised, and two numbers a row. Reads x once, writes the result once."""
    begin = tl.program_id(0).to(tl.int64) * rows
    c = tl.arange(0, BLOCK)
    inside = c < C
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(tl.float32)
    for i in range(tl.minimum(rows, N - begin)):
        row = begin + i
        at = row * C + c
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        mean = tl.sum(x, axis=0) / C
        centred = tl.where(inside, x - mean, 0.0)
        rstd = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / C + eps)
        n = centred * rstd * weight + bias
        tl.store(out_ptr + at, n.to(out_ptr.dtype.element_ty), mask=inside)
        tl.store(mean_ptr + row, mean)
        tl.store(rstd_ptr + row, rstd)


@triton.jit(do_not_specialize=["N", "rows"])
def backward(
    x_ptr,
    weight_ptr,
    mean_ptr,
    rstd_ptr,
    grad_ptr,
    grad_x_ptr,
    sums_ptr,
    N,
    C,
    rows,
    BLOCK: tl.constexpr,
):
    """Write the gradient of x, and of a program's rows the sums for weight and bias.

    With d the gradient of the result and x̂ = (x - mean) rstd:

        dx    = rstd (w d - mean(w d) - x̂ mean(w d x̂))
        sums  = Σ of d x̂ and d                                            [programs, 2, C]

    Reads x and d once, writes the gradient of x once.
    """
    begin = tl.program_id(0).to(tl.int64) * rows
    c = tl.arange(0, BLOCK)
    inside = c < C
    weight = tl.load(weight_ptr + c, mask=inside, other=0.0).to(tl.float32)
    sum_weight = tl.zeros([BLOCK], tl.float32)
    sum_bias = tl.zeros([BLOCK], tl.float32)
    for i in range(tl.minimum(rows, N - begin)):
        row = begin + i
        at = row * C + c
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_ptr + row)
        hat = tl.where(inside, (x - tl.load(mean_ptr + row)) * rstd, 0.0)
        sum_weight += grad * hat
        sum_bias += grad
        grad *= weight
        mean_grad = tl.sum(grad, axis=0) / C
        mean_hat = tl.sum(grad * hat, axis=0) / C
        grad_x = rstd * (grad - mean_grad - hat * mean_hat)
        tl.store(grad_x_ptr + at, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)
    sums = sums_ptr + tl.program_id(0).to(tl.int64) * 2 * C + c
    tl.store(sums, sum_weight, mask=inside)
    tl.store(sums + C, sum_bias, mask=inside)
