"""The gradient of `quantized_linear`: that of x Ŵᵀ, as if x were not rounded.

    dx = dy Ŵ

Rounding has the derivative 0 almost everywhere, and is the identity but for half a step; so it is
differentiated as the identity. Source: Bengio et al. 2013, "Estimating or Propagating Gradients
Through Stochastic Neurons for Conditional Computation", arXiv:1308.3432, section 4.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.ops.quantized_linear.layout import (
    PANEL_ROWS,
    QuantizedFormat,
    QuantizedWeight,
    dequantize,
)

# Weights that are dequantized at a time: 8 MiB in float32, and some tens of them on the way there.
CHUNK_WEIGHTS = 1 << 21


def with_input_gradient(
    run: Callable[[Tensor, QuantizedWeight], Tensor],
    x: Float[Tensor, "*batch n_in"],
    weight: QuantizedWeight,
) -> Float[Tensor, "*batch n_out"]:
    """Return what `run` makes of these, and let gradients reach `x`.

    Nothing but the packed weight is kept for backward, which is there anyway.

    Args:
        run: Computes the product without a gradient.
        x: What is multiplied, in float32.
        weight: Ŵ. It takes no gradient.
    """
    return _StraightThrough.apply(x, weight.data, run, weight.format, weight.n_out)


def input_gradient(
    grad: Float[Tensor, "*batch n_out"], weight: QuantizedWeight, dtype: torch.dtype
) -> Float[Tensor, "*batch n_in"]:
    """Return dy Ŵ in float32, of which only some rows of Ŵ are dequantized at a time.

    Args:
        grad: dy.
        weight: Ŵ, packed.
        dtype: What both factors are rounded to; the sum over the parts is in float32.
    """
    rows = grad.reshape(-1, weight.n_out).to(dtype)
    total = torch.zeros(len(rows), weight.n_in, device=grad.device)
    for first, part in _parts(weight):
        matrix = dequantize(part).to(dtype)
        total += rows[:, first : first + part.n_out] @ matrix
    return total.view(*grad.shape[:-1], weight.n_in)


def product_dtype(device: str) -> torch.dtype:
    """Return the dtype that products of floating-point numbers are to have: autocast's if it is on.

    Args:
        device: The type of device that computes.
    """
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.float32


def _parts(weight: QuantizedWeight) -> list[tuple[int, QuantizedWeight]]:
    """Return some panels of a matrix after the others, each with the number of its first row."""
    n_panels = max(CHUNK_WEIGHTS // (PANEL_ROWS * weight.n_in), 1)
    parts = []
    for panel in range(0, len(weight.data), n_panels):
        first = panel * PANEL_ROWS
        n_rows = min(n_panels * PANEL_ROWS, weight.n_out - first)
        data = weight.data[panel : panel + n_panels]
        parts.append((first, QuantizedWeight(data, weight.format, n_rows, weight.n_in)))
    return parts


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        data: Tensor,
        run: Callable[[Tensor, QuantizedWeight], Tensor],
        format: QuantizedFormat,
        n_out: int,
    ) -> Tensor:
        ctx.save_for_backward(data)
        ctx.form = format, n_out, x.shape[-1]
        ctx.dtype = product_dtype(x.device.type)
        return run(x, QuantizedWeight(data, format, n_out, x.shape[-1]))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (data,) = ctx.saved_tensors
        weight = QuantizedWeight(data, *ctx.form)
        return input_gradient(grads[0], weight, ctx.dtype), None, None, None, None
