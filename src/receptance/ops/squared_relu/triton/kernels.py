"""The square of the channel mix and its gradient on a GPU: one pass over memory each.

A program computes `BLOCK` neighbouring numbers of contiguous arrays, in float32.
"""

import triton
import triton.language as tl


@triton.jit
def squared_relu_forward(k_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Write max(k, 0)². Reads k once, writes the square once."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    k = tl.load(k_ptr + i, mask=inside, other=0.0).to(tl.float32)
    k = tl.where(k < 0, 0.0, k)  # not a maximum, which may lose a NaN
    tl.store(out_ptr + i, (k * k).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def squared_relu_backward(grad_ptr, k_ptr, grad_k_ptr, n, BLOCK: tl.constexpr):
    """Write 2 max(k, 0) ⊙ d, where d is the gradient of the square; it may be put in place of d.

    Reads d and k once, writes the product once.
    """
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    k = tl.load(k_ptr + i, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + i, mask=inside, other=0.0).to(tl.float32)
    grad_k = 2 * tl.where(k < 0, 0.0, k) * grad
    tl.store(grad_k_ptr + i, grad_k.to(grad_k_ptr.dtype.element_ty), mask=inside)
