"""From logits to the next token: pure functions on logits, put in a row by `steps_of`.

    logits + bias → penalties → / temperature → top-k → top-p → min-p → a draw

Everything is float64 on the CPU, whatever computed the logits: a draw costs little beside a
token's forward, and so the same logits and seed give the same token on every machine.
"""

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

# Seeds that were not given are short, for they are shown to be typed in again.
_DRAWN_SEED_BITS = 32


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen, and when to end.

    Raises:
        ValueError: If a value is out of its range.
    """

    max_tokens: int = 256
    """The most tokens that are generated; at least 1."""
    temperature: float = 1.0
    """Logits are divided by it. 0 takes the likeliest token always (greedy)."""
    top_k: int = 0
    """Only the k likeliest tokens are kept; 0 keeps all."""
    top_p: float = 1.0
    """Only the fewest likeliest tokens that together have this probability; in (0, 1]."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the likeliest; in [0, 1)."""
    repetition_penalty: float = 1.0
    """Positive logits of tokens in the prompt or generated are divided by it, negative ones
    multiplied, as Hugging Face does; above 0."""
    presence_penalty: float = 0.0
    """Taken once from the logit of every token that was generated, as OpenAI does."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit for each time that it was generated, as OpenAI does."""
    seed: int | None = None
    """The same seed gives the same text; None draws a new one. From 0 to 2⁶³ - 1."""
    stop: tuple[str, ...] = ()
    """Texts which end the generation where the first of them is complete; they are left out."""
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float], hash=False)
    """Added to the logits of tokens, by id; minus infinity forbids a token."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "top_k", "seed"):
            value = getattr(self, name)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            _check_range(
                name, value, is_integer or (name == "seed" and value is None), "an integer"
            )
        _check_range("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        for name in ("temperature", "presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _check_range(name, value, math.isfinite(value), "a finite number")
        _check_range("temperature", self.temperature, self.temperature >= 0, "at least 0")
        _check_range("top_k", self.top_k, self.top_k >= 0, "at least 0 (0 keeps all tokens)")
        _check_range("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check_range("min_p", self.min_p, 0 <= self.min_p < 1, "at least 0 and below 1")
        penalty = self.repetition_penalty
        _check_range("repetition_penalty", penalty, 0 < penalty < math.inf, "above 0 and finite")
        if self.seed is not None:
            _check_range("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2**63 - 1")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(
                f"`stop` must be a tuple of texts that are not empty, got {self.stop!r}"
            )
        object.__setattr__(self, "stop", tuple(self.stop))
        for token, bias in self.logit_bias.items():
            if token < 0 or math.isnan(bias) or bias == math.inf:
                raise ValueError(
                    "`logit_bias` must give tokens a number or minus infinity, got "
                    f"{bias!r} for the token {token!r}"
                )
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0


@dataclass(frozen=True)
class TokenHistory:
    """How often each token came before in this call: what the penalties look at.

    Tokens which a given state has seen in earlier calls are not among them, since a state does
    not tell them.
    """

    prompt: Float64[Tensor, " V"]
    generated: Float64[Tensor, " V"]

    @classmethod
    def empty(cls, vocab_size: int) -> "TokenHistory":
        """Return the history of no tokens."""
        zeros = torch.zeros(vocab_size, dtype=torch.float64)
        return cls(zeros, zeros.clone())

    def add_prompt_(self, tokens: Int[Tensor, " T"]) -> None:
        """Count tokens of the prompt; a model's rows that are no tokens are left out."""
        known = tokens[tokens < len(self.prompt)]
        self.prompt.index_add_(0, known, torch.ones(len(known), dtype=self.prompt.dtype))

    def add_generated_(self, token: int) -> None:
        """Count a token that was chosen."""
        self.generated[token] += 1


Step = Callable[[Float64[Tensor, " V"], TokenHistory], Float64[Tensor, " V"]]


def steps_of(params: SamplingParams) -> Step:
    """Return the steps of `params` as one function: logits and history in, logits out.

    What comes out has the wanted distribution as its softmax; if `params` is greedy, its largest
    is the token. Steps that would change nothing are left out.
    """
    steps: list[Step] = []
    if params.logit_bias:
        steps.append(lambda logits, _: with_bias(logits, params.logit_bias))
    if params.repetition_penalty != 1:
        steps.append(lambda logits, h: with_repetition(logits, h, params.repetition_penalty))
    if params.presence_penalty or params.frequency_penalty:
        presence, frequency = params.presence_penalty, params.frequency_penalty
        steps.append(lambda logits, h: with_presence_and_frequency(logits, h, presence, frequency))
    if not params.is_greedy:
        steps += _steps_of_chance(params)

    def run(logits: Float64[Tensor, " V"], history: TokenHistory) -> Float64[Tensor, " V"]:
        for step in steps:
            logits = step(logits, history)
        return logits

    return run


def _steps_of_chance(params: SamplingParams) -> list[Step]:
    """The steps that a greedy choice has no use for."""
    steps: list[Step] = []
    if params.temperature != 1:
        steps.append(lambda logits, _: with_temperature(logits, params.temperature))
    if params.top_k:
        steps.append(lambda logits, _: keep_top_k(logits, params.top_k))
    if params.top_p < 1:
        steps.append(lambda logits, _: keep_top_p(logits, params.top_p))
    if params.min_p:
        steps.append(lambda logits, _: keep_min_p(logits, params.min_p))
    return steps


def with_bias(logits: Float64[Tensor, " V"], bias: Mapping[int, float]) -> Float64[Tensor, " V"]:
    """Return the logits with `bias` added, by token."""
    biased = logits.clone()
    biased[list(bias)] += torch.tensor(list(bias.values()), dtype=logits.dtype)
    return biased


def with_repetition(
    logits: Float64[Tensor, " V"], history: TokenHistory, penalty: float
) -> Float64[Tensor, " V"]:
    """Return the logits with those of all tokens before moved away from likely by a factor.

    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1, with the sign rule of Hugging Face.
    """
    is_before = (history.prompt + history.generated) > 0
    return torch.where(
        is_before, torch.where(logits > 0, logits / penalty, logits * penalty), logits
    )


def with_presence_and_frequency(
    logits: Float64[Tensor, " V"], history: TokenHistory, presence: float, frequency: float
) -> Float64[Tensor, " V"]:
    """Return logits - presence · [count > 0] - frequency · count, of the tokens generated."""
    count = history.generated
    return logits - presence * (count > 0) - frequency * count


def with_temperature(logits: Float64[Tensor, " V"], temperature: float) -> Float64[Tensor, " V"]:
    """Return the logits divided by a temperature above 0, shifted so that the largest is 0."""
    # Shifted first: the largest stays 0 at any temperature, and nothing becomes inf - inf.
    return (logits - logits.max()) / temperature


def keep_top_k(logits: Float64[Tensor, " V"], k: int) -> Float64[Tensor, " V"]:
    """Return the logits with all below the k-th largest at minus infinity; equals are kept."""
    least = logits.topk(min(k, len(logits))).values[-1]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Float64[Tensor, " V"], p: float) -> Float64[Tensor, " V"]:
    """Return the logits of the fewest likeliest tokens with probability `p` together.

    All others are at minus infinity. The likeliest token is always kept, and so are tokens as
    likely as the last one that is.
    """
    probabilities = logits.softmax(-1)
    # Few tokens nearly always suffice, and sorting a whole vocabulary would cost milliseconds.
    n = min(128, len(logits))
    likeliest = probabilities.topk(n).values
    while likeliest.sum() < p and n < len(logits):
        n = min(8 * n, len(logits))
        likeliest = probabilities.topk(n).values
    last = int((likeliest.cumsum(0) < p).sum())
    return logits.masked_fill(probabilities < likeliest[min(last, n - 1)], -math.inf)


def keep_min_p(logits: Float64[Tensor, " V"], p: float) -> Float64[Tensor, " V"]:
    """Return the logits with tokens less than `p` times as likely as the likeliest forbidden."""
    return logits.masked_fill(logits < logits.max() + math.log(p), -math.inf)


def draw(logits: Float64[Tensor, " V"], generator: torch.Generator) -> int:
    """Return a token drawn from the softmax of `logits`, by one uniform number.

    It is the first token at which the cumulative probability exceeds the number. (One number per
    token, unlike `torch.multinomial`'s V, and independent of what else is in the vocabulary's
    tail.)
    """
    cumulative = logits.softmax(-1).cumsum(0)
    number = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
    return int(torch.searchsorted(cumulative, number, right=True))


class Sampler:
    """Chooses tokens one after the other, with random numbers and a history of its own."""

    def __init__(self, params: SamplingParams, vocab_size: int) -> None:
        """Begin a sequence.

        Args:
            params: How to choose.
            vocab_size: How many tokens there are to choose from.

        Raises:
            ValueError: If `params.logit_bias` names a token that there is not.
        """
        biased = max(params.logit_bias, default=0)
        if biased >= vocab_size:
            raise ValueError(f"`logit_bias` must name tokens below {vocab_size}, got {biased}")
        self.params = params
        self.seed = secrets.randbits(_DRAWN_SEED_BITS) if params.seed is None else params.seed
        """Of the random numbers; drawn if none was given. Global random state is not touched."""
        self.history = TokenHistory.empty(vocab_size)
        """The tokens so far. Whoever feeds the prompt adds it; tokens that are chosen are added."""
        self._steps = steps_of(params)
        self._generator = torch.Generator().manual_seed(self.seed)

    def choose(self, logits: Float[Tensor, " V"]) -> int:
        """Return the next token.

        Args:
            logits: Of the next token. Those beyond `vocab_size` are passed over: a model may have
                more rows than its tokenizer has tokens.

        Raises:
            ValueError: If a logit is NaN or infinite, or every token is forbidden.
        """
        logits = logits[: len(self.history.generated)].to("cpu", torch.float64)
        logits = self._steps(logits, self.history)
        largest = logits.max().item()
        if not math.isfinite(largest):
            raise ValueError(
                f"the largest logit must be finite to choose a token, got {largest}; does "
                "`logit_bias` or a penalty forbid every token, or has the model diverged?"
            )
        token = int(logits.argmax()) if self.params.is_greedy else draw(logits, self._generator)
        self.history.add_generated_(token)
        return token


def _check_range(name: str, value: object, is_within: bool, range_in_words: str) -> None:
    # A comparison with NaN is false, so NaN is within no range.
    if not is_within:
        raise ValueError(f"`{name}` must be {range_in_words}, got {value!r}")
