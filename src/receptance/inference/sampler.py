"""Tokens chosen for sequences, one after the other and side by side."""

import math
import secrets
from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from receptance.inference.constraint import Constraint
from receptance.inference.impossible import ImpossibleRequestError
from receptance.inference.sampling import (
    MOST_TOKENS,
    SamplingParams,
    TokenHistory,
    draw,
    steps_of,
)

# Seeds that were not given are short, for they are shown to be typed in again.
_DRAWN_SEED_BITS = 32
# So many numbers stay in the cache from one step to the next.
_BLOCK_LOGITS = 2**18


class DivergedError(ValueError):
    """The model's own logits are no distribution: nothing that was asked for made them so."""


class Sampler:
    """Chooses tokens one after the other, with random numbers and a history of its own."""

    def __init__(
        self, params: SamplingParams, vocab_size: int, constraint: Constraint | None = None
    ) -> None:
        """Begin a sequence.

        Args:
            params: How to choose.
            vocab_size: How many tokens there are to choose from.
            constraint: Which of them may be chosen; whoever keeps the text tells it which were.

        Raises:
            ImpossibleRequestError: If `params.logit_bias` names a token that there is not.
            ValueError: If there are more tokens than can be weighed exactly.
        """
        if vocab_size > MOST_TOKENS:
            raise ValueError(f"`vocab_size` must be at most {MOST_TOKENS}, got {vocab_size}")
        biased = max(params.logit_bias, default=0)
        if biased >= vocab_size:
            raise ImpossibleRequestError(
                f"`logit_bias` must name tokens below {vocab_size}, got {biased}"
            )
        self.params = params
        self.constraint = constraint
        self.seed = secrets.randbits(_DRAWN_SEED_BITS) if params.seed is None else params.seed
        """Of the random numbers; drawn if none was given. Global random state is not touched."""
        self.vocab_size = vocab_size
        self.steps = steps_of(params)
        self.generator = torch.Generator().manual_seed(self.seed)
        # Without penalties nothing is counted, since two numbers for each token of a vocabulary
        # may be more than the state of a small model.
        fades = bool(params.frequency_penalty) and params.penalty_decay < 1
        self.history = TokenHistory.empty(vocab_size if params.is_penalising else 0, fades=fades)

    def add_prompt(self, tokens: Sequence[int]) -> None:
        """Note tokens of the prompt, which penalties may look at."""
        if self.params.repetition_penalty != 1:
            self.history.add_prompt_(torch.tensor(tokens, dtype=torch.int64))

    def choose(self, logits: Float[Tensor, " V"]) -> int:
        """Return the next token.

        Args:
            logits: Of the next token. Those beyond `vocab_size` are passed over: a model may have
                more rows than its tokenizer has tokens.

        Raises:
            DivergedError: If a logit of the model is NaN or infinite.
            ImpossibleRequestError: If every token is forbidden.
            Exception: What the constraint raises.
        """
        (token,) = choose_tokens([self], logits[None])
        if isinstance(token, Exception):
            raise token
        return token


def choose_tokens(
    samplers: Sequence[Sampler], logits: Float[Tensor, "B V"]
) -> list[int | Exception]:
    """Return the next token of every sequence, or what `Sampler.choose` would raise for it.

    Rows with the same settings go through the steps together. Each gets what it would get alone,
    whatever the others are.

    Args:
        samplers: Those of the sequences.
        logits: Of their next tokens, as for `Sampler.choose`.
    """
    chosen: dict[int, int | Exception] = {}
    rows_alike: dict[Hashable, list[int]] = defaultdict(list)
    logits = logits.to("cpu")
    if any(sampler.constraint is not None for sampler in samplers):
        logits, failed = _constrained(samplers, logits)
        chosen |= failed
    for row, sampler in enumerate(samplers):
        if row not in chosen:
            rows_alike[_likeness(sampler)].append(row)
    n = max(1, _BLOCK_LOGITS // logits.shape[1])
    for alike in rows_alike.values():
        for rows in (alike[start : start + n] for start in range(0, len(alike), n)):
            tokens = _choose_contained([samplers[row] for row in rows], logits[rows])
            chosen |= zip(rows, tokens, strict=True)
    return [chosen[row] for row in range(len(samplers))]


def _constrained(
    samplers: Sequence[Sampler], logits: Float[Tensor, "B V"]
) -> tuple[Float[Tensor, "B V"], dict[int, Exception]]:
    """Return the logits with what constraints forbid at minus infinity, and which of these failed.

    No bias and no penalty brings a token back, so it makes no difference that they come after.
    """
    logits, failed = logits.clone(), dict[int, Exception]()
    for row, sampler in enumerate(samplers):
        if sampler.constraint is not None:
            try:
                allowed = sampler.constraint.allowed()
                logits[row, : sampler.vocab_size].masked_fill_(~allowed, -math.inf)
            except Exception as error:  # noqa: BLE001 (it ends this text alone)
                failed[row] = error
    return logits, failed


def _choose_contained(
    samplers: Sequence[Sampler], logits: Float[Tensor, "B V"]
) -> list[int | Exception]:
    """Choose from rows that are alike, so that a row that fails fails alone."""
    try:
        return _choose_alike(samplers, logits)
    except Exception as error:  # noqa: BLE001 (it ends this text alone)
        if len(samplers) == 1:
            return [error]
    # Nothing was drawn yet: random numbers are the last that is asked for.
    return [_choose_contained([each], logits[row, None])[0] for row, each in enumerate(samplers)]


def _likeness(sampler: Sampler) -> Hashable:
    """What two samplers have in common whose rows go through the same steps."""
    params = sampler.params
    if params.logit_bias or params.is_penalising:
        return sampler
    chance = params.temperature, params.top_k, params.top_p, params.min_p, params.typical_p
    return sampler.vocab_size, chance


def _choose_alike(
    samplers: Sequence[Sampler], logits: Float[Tensor, "B V"]
) -> list[int | Exception]:
    """Choose from rows that go through the steps of the first sampler."""
    first = samplers[0]
    before = logits = logits[:, : first.vocab_size].to(torch.float64)
    kept = _tokens_that_may_be_kept(first.params, logits)
    if kept is not None:
        logits = logits.gather(-1, kept)
    logits = first.steps(logits, first.history)
    largest, likeliest = logits.max(-1)
    if first.params.is_greedy:
        tokens = likeliest
    else:
        tokens = draw(logits, [sampler.generator for sampler in samplers])
    if kept is not None:
        tokens = kept.gather(-1, tokens.clamp(max=kept.shape[-1] - 1)[:, None])[:, 0]
    return [
        _noted(sampler, int(token), float(at_most), row)
        for sampler, token, at_most, row in zip(samplers, tokens, largest, before, strict=True)
    ]


def _tokens_that_may_be_kept(
    params: SamplingParams, logits: Float64[Tensor, "B V"]
) -> Int[Tensor, "B n"] | None:
    """Return the tokens that top-k leaves, in rising order; None if all tokens may be.

    Rows have those of the row with most equals of its k-th. What follows costs next to nothing
    with k tokens in place of a whole vocabulary, and leaving out tokens of weight 0 changes no sum.
    """
    k, vocab_size = params.top_k, logits.shape[-1]
    is_plain = not (params.logit_bias or params.is_penalising or params.is_greedy)
    if not (is_plain and 0 < k < vocab_size):
        return None
    least = logits.topk(k).values[:, -1:]
    n_with_equals = int((logits >= least).sum(-1).max())
    return logits.topk(max(k, n_with_equals)).indices.sort(-1).values


def _noted(
    sampler: Sampler, token: int, largest: float, before: Float64[Tensor, " V"]
) -> int | ValueError:
    """Return the token that was chosen, counted, if its logits were a distribution.

    Args:
        sampler: Of the sequence.
        token: The one that was chosen.
        largest: Of the logits that it was chosen by.
        before: The model's logits, and minus infinity where a constraint forbids a token.
    """
    if not math.isfinite(largest):
        return refused(sampler, largest, float(before.max())) or token
    if sampler.params.is_penalising:
        sampler.history.add_generated_(token, sampler.params.penalty_decay)
    return token


def refused(sampler: Sampler, largest: float, before: float) -> ValueError | None:
    """Return why no token can be chosen; None if one can.

    Args:
        sampler: Of the sequence.
        largest: Of the logits that a token was to be chosen by.
        before: The model's largest, of the tokens that a constraint allows.
    """
    if math.isfinite(largest):
        return None
    nothing_is_allowed = before == -math.inf and sampler.constraint is not None
    if math.isfinite(before) or nothing_is_allowed:
        return ImpossibleRequestError(_FORBIDDEN.format(largest))
    return DivergedError(_DIVERGED.format(before))


_FORBIDDEN = (
    "the largest logit must be finite to choose a token, got {}; let `logit_bias`, the penalties "
    "or the constraint leave a token that may be chosen"
)
_DIVERGED = (
    "the largest logit must be finite to choose a token, got {} from the model, which has "
    "diverged; try it in float32, or take other weights"
)
