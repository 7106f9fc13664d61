"""`linear_cross_entropy` with the logits of a chunk of tokens at a time.

A loss is the end of a forward, so its gradient is known up to one factor before the backward
begins. While a chunk's logits are there, they are turned into their gradient in place, and that
into its part of the gradients of x and of the weight; backward multiplies these by the factor that
comes. So every product is computed once, and logits never outlive their chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.linear_cross_entropy import triton
from receptance.ops.linear_cross_entropy.reference import sums_dtype
from receptance.ops.native import library_obstacle

# Memory for the logits of one chunk. A chunk must have some hundred tokens, or else adding its part
# to the weight's gradient costs as much as the products: at V = 65536 it has 256, in bfloat16.
CHUNK_BYTES = 32 << 20
# A GPU's products are so much faster than its memory that a chunk must have some thousand: its part
# of the weight's gradient is added at 12 bytes a weight, in the time of about 3000 operations, of
# which a token is two. (By the data sheets of GPUs of 2022 to 2024; not measured.)
GPU_CHUNK_BYTES = 512 << 20
# Up to so many numbers PyTorch sums on one thread, so that the sum does not depend on how many
# threads there are.
MAX_CHUNK_TOKENS = 16384

SERVED = (torch.float32, torch.bfloat16, torch.float64)

RowGradient = Callable[[Tensor, Tensor, float, float, bool], tuple[Tensor, Tensor]]
"""Takes logits, targets, scale, auxiliary and whether the gradient is wanted; returns what each row
costs and its largest logit, and puts scale times the gradient of cost + auxiliary / 2 largest² in
place of the logits. Of logits that are part of wider rows, it may overwrite the rest."""


def linear_cross_entropy_chunked(
    x: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int64[Tensor, " N"],
    auxiliary: float,
    product: torch.dtype,
    counted: Bool[Tensor, " N"] | None = None,
    kernel: str = "plain",
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, " N"]]:
    """Return the cross-entropy, the total and the costs; see `linear_cross_entropy`.

    The last argument says what turns logits into their gradient: "plain", PyTorch on any device,
    "native", the C++ kernel for the CPU, or "triton", the kernel for GPUs. On a GPU `counted` is
    waited for, to know how many tokens there are; nothing else is.
    """
    wants_x, wants_weight = (torch.is_grad_enabled() and each.requires_grad for each in (x, weight))
    cross_entropy, total, costs, _, _ = torch.ops.receptance.linear_cross_entropy(
        x, weight, targets, auxiliary, product, wants_x, wants_weight, kernel, counted
    )
    return cross_entropy, total, costs


def linear_cross_entropy_native(
    x: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int64[Tensor, " N"],
    auxiliary: float,
    product: torch.dtype,
    counted: Bool[Tensor, " N"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, " N"]]:
    """Return the same, by the C++ kernel; its equations: native/include/receptance/kernels.h."""
    return linear_cross_entropy_chunked(x, weight, targets, auxiliary, product, counted, "native")


def linear_cross_entropy_triton(
    x: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int64[Tensor, " N"],
    auxiliary: float,
    product: torch.dtype,
    counted: Bool[Tensor, " N"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, " N"]]:
    """Return the same, by the kernel for GPUs."""
    return linear_cross_entropy_chunked(x, weight, targets, auxiliary, product, counted, "triton")


def chunked_obstacle(
    x: Tensor,  # noqa: ARG001 (what every implementation is asked with)
    weight: Tensor,  # noqa: ARG001
    targets: Tensor,  # noqa: ARG001
    auxiliary: float,  # noqa: ARG001
    product: torch.dtype,
    counted: Tensor | None = None,  # noqa: ARG001
) -> str | None:
    """Return why the chunks cannot run with these arguments, as a clause, or None if they can."""
    # 1/N is the scale of the gradients and would be lost in float16's few exponents.
    if product not in SERVED:
        return f"it serves products in float32, bfloat16 and float64, and they are in {product}"
    return None


def native_obstacle(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    auxiliary: float,
    product: torch.dtype,
    counted: Tensor | None = None,
) -> str | None:
    """Return why the C++ kernel cannot run with these, as a clause, or None if it can."""
    for tensor in (x, weight, targets, counted):
        if tensor is not None and tensor.device.type != "cpu":
            return f"it runs on the cpu, and a tensor is on {tensor.device}"
    return chunked_obstacle(x, weight, targets, auxiliary, product) or library_obstacle()


def triton_obstacle(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    auxiliary: float,
    product: torch.dtype,
    counted: Tensor | None = None,
) -> str | None:
    """Return why the kernel for GPUs cannot run with these, as a clause, or None if it can."""
    obstacle = chunked_obstacle(x, weight, targets, auxiliary, product)
    if obstacle is None and product == torch.float64:
        return "it serves products in float32 and bfloat16, and they are in torch.float64"
    flags = [] if counted is None else [counted]
    return obstacle or triton.triton_obstacle(x, weight, targets, *flags)


def row_gradient_of(kernel: str) -> RowGradient:
    """Return what turns logits into their gradient: "plain", "native" or "triton"."""
    if kernel == "triton":
        return triton.row_gradient
    return torch.ops.receptance.cross_entropy_ if kernel == "native" else plain_row_gradient


def plain_row_gradient(
    logits: Tensor, targets: Tensor, scale: float, auxiliary: float, wants_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Do what `RowGradient` says in plain PyTorch."""
    wide = logits.to(sums_dtype(logits.dtype))
    largest, first = wide.max(dim=-1)
    cost = F.cross_entropy(wide, targets, reduction="none")
    if wants_gradient:
        gradient = wide.softmax(dim=-1)
        gradient.scatter_add_(1, targets[:, None], torch.full_like(largest, -1.0)[:, None])
        gradient.scatter_add_(1, first[:, None], (auxiliary * largest)[:, None])
        logits.copy_(gradient.mul_(scale))
    return cost, largest


def chunk_tokens(vocab_size: int, product: torch.dtype, device: str = "cpu") -> int:
    """Return how many tokens' logits are there at a time, on a type of device."""
    n_bytes = CHUNK_BYTES if device == "cpu" else GPU_CHUNK_BYTES
    return min(max(n_bytes // (vocab_size * product.itemsize), 1), MAX_CHUNK_TOKENS)


@torch.library.custom_op("receptance::linear_cross_entropy", mutates_args=())
def _forward(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    auxiliary: float,
    product: torch.dtype,
    wants_x: bool,
    wants_weight: bool,
    kernel: str,
    counted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return cross-entropy, total, costs, and the gradients of total (empty where not wanted)."""
    row_gradient = row_gradient_of(kernel)
    # Here and not before: inside the op, shapes may depend on values and still compile.
    rows = None if counted is None else counted.nonzero().flatten()
    N, V = len(x) if rows is None else len(rows), len(weight)
    w = weight.to(product)
    grad_x, grad_weight = _gradients_like(x, weight, product, wants_x, wants_weight)
    if rows is not None:
        grad_x.zero_()
    if N == 0:
        grad_weight.zero_()
    sums = sums_dtype(product)
    costs = torch.zeros(len(x), dtype=sums, device=x.device)
    both = torch.zeros(2, dtype=torch.float64, device=x.device)
    step = chunk_tokens(V, product, x.device.type)
    # No kernel moves rows of an odd length fast, and vocabularies have odd sizes.
    width = V if kernel != "triton" else -(-V // triton.ALIGNMENT) * triton.ALIGNMENT
    memory = torch.empty(min(step, N), width, dtype=product, device=x.device)[:, :V]
    for begin in range(0, N, step):
        chunk = slice(begin, begin + step) if rows is None else rows[begin : begin + step]
        x_chunk = x[chunk].to(product)
        logits = torch.mm(x_chunk, w.t(), out=memory[: len(x_chunk)])
        cost, largest = row_gradient(
            logits, targets[chunk], 1 / N, auxiliary, wants_x or wants_weight
        )
        costs[chunk] = cost
        both += torch.stack([cost.double().sum(), largest.double().square().sum()])
        # What was `logits` is their gradient from here on.
        if wants_x:
            part = torch.mm(logits, w)
            grad_x[chunk] = part if rows is None else part.to(x.dtype)
        if wants_weight:
            part = torch.mm(logits.t(), x_chunk)
            grad_weight.copy_(part) if begin == 0 else grad_weight.add_(part)
    cross_entropy, mean_square = both / max(N, 1)
    total = cross_entropy + auxiliary / 2 * mean_square
    return cross_entropy.to(sums), total.to(sums), costs, grad_x, grad_weight.to(weight.dtype)


def _gradients_like(
    x: Tensor, weight: Tensor, product: torch.dtype, wants_x: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    """Return memory for both gradients, empty where not wanted; the weight's is for sums."""
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    shape = weight.shape if wants_weight else (0,)
    grad_weight = weight.new_empty(shape, dtype=sums_dtype(product))
    return grad_x if wants_x else x.new_empty(0), grad_weight


@_forward.register_fake
def _fake(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,  # noqa: ARG001 (the schema's arguments)
    auxiliary: float,  # noqa: ARG001
    product: torch.dtype,
    wants_x: bool,
    wants_weight: bool,
    kernel: str,  # noqa: ARG001
    counted: Tensor | None = None,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    scalar = x.new_empty((), dtype=sums_dtype(product))
    grad_x, grad_weight = _gradients_like(x, weight, product, wants_x, wants_weight)
    costs = scalar.new_empty(len(x))
    return scalar, torch.empty_like(scalar), costs, grad_x, grad_weight.to(weight.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    cross_entropy, _, costs, grad_x, grad_weight = output
    ctx.wants_x, ctx.wants_weight = inputs[5:7]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(cross_entropy, costs, grad_x, grad_weight)
    ctx.save_for_backward(grad_x, grad_weight)


def _differentiate(
    ctx: Any,
    _cross_entropy: None,
    grad_total: Tensor | None,
    _costs: None,
    _x: None,
    _weight: None,
) -> tuple[Tensor | None, ...]:
    if grad_total is None:
        return (None,) * 9
    grad_x, grad_weight = ctx.saved_tensors
    return (
        grad_x * grad_total if ctx.wants_x else None,
        grad_weight * grad_total if ctx.wants_weight else None,
        *(None,) * 7,
    )


_forward.register_autograd(_differentiate, setup_context=_setup_context)
