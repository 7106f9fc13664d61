"""What training minimises."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


class Loss(NamedTuple):
    """The parts of a batch's loss, each a mean over its tokens."""

    cross_entropy: Float[Tensor, ""]
    """In nats a token; the figure to report."""
    total: Float[Tensor, ""]
    """What is minimised: with the auxiliary loss."""


def language_model_loss(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"], *, auxiliary: float
) -> Loss:
    """Return the cross-entropy, and with it the authors' auxiliary loss.

        total = mean(-log softmax(logits)[target]) + auxiliary / 2 mean(max(logits)²)

    The second term keeps the largest logit from drifting away. Its gradient, auxiliary times the
    largest logit over B T, is that of the authors' `L2Wrap`; but as a part of the loss it is also
    scaled with it, where gradients are accumulated or the loss is.

    Args:
        logits: Float32 scores of the next token.
        targets: The tokens that came.
        auxiliary: The weight of the auxiliary loss; the authors' is 1e-4. 0 leaves it out.

    Source: BlinkDL/RWKV-LM, RWKV-v4neo/src/model.py, L2Wrap; arXiv:2305.13048, section 4, names
    PaLM's z-loss instead, which is not what the code does.
    """
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    if auxiliary == 0:
        return Loss(cross_entropy, cross_entropy)
    largest = logits.max(dim=-1).values
    return Loss(cross_entropy, cross_entropy + auxiliary / 2 * largest.square().mean())
