"""Whether two models predict the same, on a short text that comes with this package."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from receptance.models import RWKV4
from receptance.tokenizer import Tokenizer

PROBE = (
    "In 1687 Isaac Newton wrote that every body attracts every other.\n\n"
    "def area(r: float) -> float:\n    return 3.14159 * r**2\n\n"
    "Größe, café, 北京, привет: 42 × 17 = 714."
)
N_PROBE_TOKENS = 64

Source = Literal["text", "tokens"]
"""What two models read: the text by the tokenizer that both have, or tokens that mean nothing."""


@dataclass(frozen=True)
class Agreement:
    """How far the predictions of two models are from each other."""

    read: Source
    n_tokens: int
    max_abs_logit: float
    """The largest distance of two logits."""
    same_likeliest: float
    """The share of tokens after which both find the same token likeliest."""
    kl_nats: float
    """KL(first || second) after a token, the mean."""


def probe_tokens(
    first: Tokenizer | None, second: Tokenizer | None, vocab_size: int
) -> tuple[Int64[Tensor, " T"], Source]:
    """Return what both models read, and what it is.

    Args:
        first: The tokenizer of a model; None if it came without one.
        second: That of the other. If only one has one, it is taken to be that of both.
        vocab_size: The ids that both models know.
    """
    known = [each for each in (first, second) if each is not None]
    if len({each.sha256 for each in known}) == 1:
        tokens = known[0].encode(PROBE)[:N_PROBE_TOKENS]
        if max(tokens) < vocab_size:
            return torch.tensor(tokens), "text"
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size, (N_PROBE_TOKENS,), generator=generator), "tokens"


def probe_logits(model: RWKV4, tokens: Int64[Tensor, " T"]) -> Float[Tensor, "T V"]:
    """Return the logits of a model after each token, read from the zero state."""
    with torch.inference_mode():
        return model(tokens[None])[0][0].float()


def agreement(first: Float[Tensor, "T V"], second: Float[Tensor, "T V"], read: Source) -> Agreement:
    """Return how far two models' logits are from each other; probabilities are float64.

    Args:
        first: The logits of one, as `probe_logits` gives them.
        second: The logits of the other, on the same tokens.
        read: What the tokens are.
    """
    log_p, log_q = (logits.double().log_softmax(-1) for logits in (first, second))
    return Agreement(
        read=read,
        n_tokens=len(first),
        max_abs_logit=float((first.double() - second.double()).abs().max()),
        same_likeliest=float((first.argmax(-1) == second.argmax(-1)).double().mean()),
        kl_nats=float((log_p.exp() * (log_p - log_q)).sum(-1).mean()),
    )
