"""How likely the model itself held a token, and which it held likelier."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TokenLogprobs:
    """A token of a text, and the likeliest tokens in its place.

    The numbers are the model's own: ln p by all logits as they leave the model, in float64, before
    biases, penalties, constraints and the temperature.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens and their ln p, in falling order. If `token` is the likeliest, the first
    number is `logprob` to the last bit."""


def token_logprobs(
    logits: Float[Tensor, " V_model"], token: int, n_top: int, vocab_size: int
) -> TokenLogprobs:
    """Return how likely a token was.

    Args:
        logits: What the model says of the place where the token stands.
        token: Any row of the model.
        n_top: How many of the likeliest are wanted.
        vocab_size: How many tokens the tokenizer has: further rows of a model have no text, and
            are not among the likeliest.
    """
    # A row at a time: sums of several rows at once may add in another order.
    logprobs = logits.to("cpu", torch.float64).log_softmax(-1)
    top = logprobs[:vocab_size].topk(min(n_top, vocab_size))
    pairs = zip(top.indices, top.values, strict=True)
    likeliest = tuple((int(each), float(logprob)) for each, logprob in pairs)
    return TokenLogprobs(token, float(logprobs[token]), likeliest)
