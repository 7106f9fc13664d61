"""`linear_cross_entropy` of a matrix of 4 or 8 bit weights, a chunk of tokens at a time.

As in `chunked.py` the gradient is computed in the forward; there is none of the matrix.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from receptance.ops.linear_cross_entropy.chunked import (
    chunk_tokens,
    row_gradient_of,
)
from receptance.ops.linear_cross_entropy.triton import triton_obstacle
from receptance.ops.native import library_obstacle
from receptance.ops.quantized_linear import (
    QuantizedFormat,
    QuantizedWeight,
    input_gradient,
    product_dtype,
    quantized_linear,
)


def quantized_chunk_tokens(vocab_size: int, device: str = "cpu") -> int:
    """Return how many tokens' logits, in float32, are there at a time: as many as in bfloat16.

    With each chunk the whole matrix is dequantized once, which fewer tokens would not be worth.
    """
    return chunk_tokens(vocab_size, torch.bfloat16, device)


def quantized_linear_cross_entropy(
    x: Float[Tensor, "N C"],
    weight: QuantizedWeight,
    targets: Int[Tensor, " N"],
    auxiliary: float,
    counted: Bool[Tensor, " N"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, " N"]]:
    """Return the cross-entropy, the total and the costs by the logits of `quantized_linear`.

    All are float32.

    They and the gradient of x are those of `linear_cross_entropy`, but that the logits are made
    from rounded factors, and differentiated as if x were not rounded.

    Args:
        x: What the head reads, N > 0 tokens, in float32.
        weight: The head's matrix.
        targets: The tokens that came, each in [0, V).
        auxiliary: The weight of the second term.
        counted: Which tokens the means are over; None for all.
    """
    format = weight.format
    wants_x = torch.is_grad_enabled() and x.requires_grad
    cross_entropy, total, costs, _ = torch.ops.receptance.quantized_linear_cross_entropy(
        *(x, weight.data, weight.n_out, format.bits, format.group_size, format.has_offset),
        *(targets.long(), auxiliary, product_dtype(x.device.type), wants_x, counted),
    )
    return cross_entropy, total, costs


def _kernel(x: Tensor) -> str:
    """Return what turns logits into their gradient where `x` is."""
    if x.is_cpu and library_obstacle() is None:
        return "native"
    return "triton" if triton_obstacle(x) is None else "plain"


@torch.library.custom_op("receptance::quantized_linear_cross_entropy", mutates_args=())
def _forward(
    x: Tensor,
    data: Tensor,
    n_out: int,
    bits: int,
    group_size: int,
    has_offset: bool,
    targets: Tensor,
    auxiliary: float,
    product: torch.dtype,
    wants_x: bool,
    counted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return cross-entropy, total, costs, and the gradient of total (empty where not wanted)."""
    row_gradient = row_gradient_of(_kernel(x))
    format = QuantizedFormat(bits, group_size, has_offset)
    weight = QuantizedWeight(data, format, n_out, x.shape[1])
    rows = torch.arange(len(x), device=x.device) if counted is None else counted.nonzero().flatten()
    grad_x = torch.zeros_like(x) if wants_x else x.new_empty(0)
    costs = torch.zeros(len(x), device=x.device)
    both = torch.zeros(2, dtype=torch.float64, device=x.device)
    step = quantized_chunk_tokens(n_out, x.device.type)
    for begin in range(0, len(rows), step):
        chunk = rows[begin : begin + step]
        logits = quantized_linear(x[chunk], weight)
        cost, largest = row_gradient(logits, targets[chunk], 1 / len(rows), auxiliary, wants_x)
        costs[chunk] = cost
        both += torch.stack([cost.double().sum(), largest.double().square().sum()])
        if wants_x:  # what was `logits` is their gradient
            grad_x[chunk] = input_gradient(logits, weight, product)
    cross_entropy, mean_square = both / max(len(rows), 1)
    total = cross_entropy + auxiliary / 2 * mean_square
    return cross_entropy.float(), total.float(), costs, grad_x


@_forward.register_fake
def _fake(
    x: Tensor,
    data: Tensor,  # noqa: ARG001 (the schema's arguments)
    n_out: int,  # noqa: ARG001
    bits: int,  # noqa: ARG001
    group_size: int,  # noqa: ARG001
    has_offset: bool,  # noqa: ARG001
    targets: Tensor,  # noqa: ARG001
    auxiliary: float,  # noqa: ARG001
    product: torch.dtype,  # noqa: ARG001
    wants_x: bool,
    counted: Tensor | None = None,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_x = torch.empty_like(x) if wants_x else x.new_empty(0)
    return x.new_empty(()), x.new_empty(()), x.new_empty(len(x)), grad_x


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001
    cross_entropy, _, costs, grad_x = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(cross_entropy, costs, grad_x)
    ctx.save_for_backward(grad_x)


def _differentiate(
    ctx: Any, _cross_entropy: None, grad_total: Tensor | None, _costs: None, _x: None
) -> tuple[Tensor | None, ...]:
    (grad_x,) = ctx.saved_tensors
    return (None if grad_total is None else grad_x * grad_total, *(None,) * 10)


_forward.register_autograd(_differentiate, setup_context=_setup_context)
