"""The kernel that turns logits into their gradient on a GPU.

A program has one row of logits, which it reads `BLOCK` at a time: once for their maximum and sum,
and where the gradient is wanted once more to replace them. All arithmetic is float32.

Rows are `stride` numbers apart, and what lies between their ends is read, though not used, and
written. A vocabulary's size is often odd: masked by it, each number would be moved alone.
"""

import triton
import triton.language as tl


@triton.jit
def row_block(logits_ptr, j, V, stride):
    """Return logits j of a row, -inf from V on."""
    logits = tl.load(logits_ptr + j, mask=j < stride, other=0.0).to(tl.float32)
    return tl.where(j < V, logits, -float("inf"))


@triton.jit(do_not_specialize=["V"])
def cross_entropy(
    logits_ptr,
    targets_ptr,
    cost_ptr,
    largest_ptr,
    scale,
    auxiliary,
    V,
    stride,
    WANTS_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write what a row costs and its largest logit, and the gradient in place of the logits.

    With m = max_j l_j, first at j = i, and the target t:

        largest = m
        cost    = log Σ_j e^{l_j - m} - (l_t - m)
        l_j    ← scale (e^{l_j - m} / Σ_i e^{l_i - m} - [j = t] + auxiliary m [j = i])

    Reads the logits once or twice, and writes them once or not.
    """
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * stride
    target = tl.load(targets_ptr + row)
    # A target that does not exist costs NaN, and nothing is read outside.
    is_token = (target >= 0) & (target < V)
    of_target = tl.load(logits_ptr + target, mask=is_token, other=float("nan")).to(tl.float32)
    largest = -float("inf")
    first = 0
    total = 0.0
    for begin in range(0, V, BLOCK):
        j = begin + tl.arange(0, BLOCK)
        logits = row_block(logits_ptr, j, V, stride)
        of_block, at = tl.max(logits, axis=0, return_indices=True)
        larger = tl.maximum(largest, of_block)
        first = tl.where(of_block > largest, begin + at, first)
        # Where all so far is -inf there is nothing to scale: -inf less itself would be NaN.
        shift = tl.where(larger == -float("inf"), 0.0, larger)
        total = total * tl.exp(largest - shift) + tl.sum(tl.exp(logits - shift), axis=0)
        largest = larger
    tl.store(cost_ptr + row, tl.log(total) - (of_target - largest))
    tl.store(largest_ptr + row, largest)
    if WANTS_GRADIENT:
        for begin in range(0, V, BLOCK):
            j = begin + tl.arange(0, BLOCK)
            logits = row_block(logits_ptr, j, V, stride)
            grad = tl.exp(logits - largest) / total
            grad = tl.where(j == target, grad - 1, grad)
            grad = tl.where(j == first, grad + auxiliary * largest, grad)
            grad = (scale * grad).to(logits_ptr.dtype.element_ty)
            tl.store(logits_ptr + j, grad, mask=j < stride)
