"""What training minimises."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from receptance.ops.linear_cross_entropy import (
    linear_cross_entropy,
    quantized_linear_cross_entropy,
)
from receptance.ops.quantized_linear import QuantizedWeight


class Loss(NamedTuple):
    """The parts of a batch's loss, the first two a mean over its tokens that count."""

    cross_entropy: Float[Tensor, ""]
    """In nats a token; the figure to report. Carries no gradient."""
    total: Float[Tensor, ""]
    """What is minimised: with the auxiliary loss."""
    row_costs: Float[Tensor, " B"]
    """The cross-entropy of each row, summed over its tokens that count. Carries no gradient."""


def language_model_loss(
    x: Float[Tensor, "B T C"],
    head: Float[Tensor, "V C"] | QuantizedWeight,
    targets: Int[Tensor, "B T"],
    *,
    auxiliary: float,
    counted: Bool[Tensor, "B T"] | None = None,
) -> Loss:
    """Return the cross-entropy, and with it the authors' auxiliary loss.

        logits = x headᵀ
        total = mean(-log softmax(logits)[target]) + auxiliary / 2 mean(max(logits)²)

    The second term keeps the largest logit from drifting away. Its gradient, auxiliary times the
    largest logit over B T, is that of the authors' `L2Wrap`; but as a part of the loss it is also
    scaled with it, where gradients are accumulated or the loss is.

    The logits of a few thousand tokens exist at a time, and never those of the batch.

    Args:
        x: The model's features: what its head reads.
        head: The head's matrix. A rounded one takes no gradient.
        targets: The tokens that came.
        auxiliary: The weight of the auxiliary loss; the authors' is 1e-4. 0 leaves it out.
        counted: Which targets count, in both means; None for all. Where none does, both are zero.

    Source: BlinkDL/RWKV-LM, RWKV-v4neo/src/model.py, L2Wrap; arXiv:2305.13048, section 4, names
    PaLM's z-loss instead, which is not what the code does.
    """
    rows, flat = x.flatten(0, 1), targets.flatten()
    counted = None if counted is None else counted.flatten()
    if isinstance(head, QuantizedWeight):
        found = quantized_linear_cross_entropy(rows, head, flat, auxiliary, counted)
    else:
        found = linear_cross_entropy(rows, head, flat, auxiliary=auxiliary, counted=counted)
    cross_entropy, total, costs = found
    return Loss(cross_entropy, total, costs.view(targets.shape).double().sum(dim=1))
