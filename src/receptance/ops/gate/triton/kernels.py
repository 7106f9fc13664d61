"""The kernels of `gate` and `gated_add` on a GPU: one pass over memory forward and one backward.

A program computes `BLOCK` neighbouring numbers of contiguous arrays, in float32.
"""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(r):
    """Return σ(r) and its derivative, from the exponential that cannot overflow."""
    z = tl.exp(-tl.abs(r))
    return tl.where(r < 0, z, 1.0) / (1 + z), z / ((1 + z) * (1 + z))


@triton.jit
def gate_forward(r_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Write σ(r) ⊙ y. Reads r and y once, writes the product once."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    r = tl.load(r_ptr + i, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + i, mask=inside, other=0.0).to(tl.float32)
    share, _ = _sigmoid(r)
    tl.store(out_ptr + i, (share * y).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gated_add_forward(x_ptr, y_ptr, r_ptr, out_ptr, n, IS_GATED: tl.constexpr, BLOCK: tl.constexpr):
    """Write x + σ(r) ⊙ y, or x + y. Reads each input once, writes the sum once."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    x = tl.load(x_ptr + i, mask=inside, other=0.0)
    y = tl.load(y_ptr + i, mask=inside, other=0.0).to(tl.float32)
    if IS_GATED:
        r = tl.load(r_ptr + i, mask=inside, other=0.0).to(tl.float32)
        share, _ = _sigmoid(r)
        y = share * y
    tl.store(out_ptr + i, x + y, mask=inside)


@triton.jit
def gate_backward(r_ptr, y_ptr, grad_ptr, grad_r_ptr, grad_y_ptr, n, BLOCK: tl.constexpr):
    """Write dr = σ'(r) ⊙ y ⊙ d and dy = σ(r) ⊙ d, where d is the gradient of σ(r) ⊙ y.

    Reads r, y and d once, writes both gradients once.
    """
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    r = tl.load(r_ptr + i, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + i, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + i, mask=inside, other=0.0).to(tl.float32)
    share, slope = _sigmoid(r)
    tl.store(grad_r_ptr + i, (slope * y * grad).to(grad_r_ptr.dtype.element_ty), mask=inside)
    tl.store(grad_y_ptr + i, (share * grad).to(grad_y_ptr.dtype.element_ty), mask=inside)
