"""The square that enters a float16 matrix, in one pass over memory.

A program computes `BLOCK` neighbouring numbers of contiguous arrays, in float32.
"""

import triton
import triton.language as tl


@triton.jit
def half_square(k_ptr, out_ptr, n, ROOT: tl.constexpr, BLOCK: tl.constexpr):
    """Write (ROOT max(k, 0))². Reads k once, writes the square once."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    k = tl.load(k_ptr + i, mask=inside, other=0.0).to(tl.float32)
    root = tl.where(k < 0, 0.0, k) * ROOT  # not a maximum, which may lose a NaN
    tl.store(out_ptr + i, (root * root).to(out_ptr.dtype.element_ty), mask=inside)
