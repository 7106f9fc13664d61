"""From logits to the next token: pure functions on logits, put in a row by `steps_of`.

    logits + bias → penalties → / temperature → top-k → top-p → min-p → typical → a draw

Everything is float64, whatever computed the logits. What is added up is first rounded to whole
numbers, whose sum is the same in any order: so what a function gives for a row does not depend on
the rows beside it, by no bit, on any device, and the same logits and seed give the same token on
every machine, unless its exp of a number differs in the last bit and the draw falls just there,
which is less than once in 10⁷ tokens. A function takes one sequence or many.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen, and when to end.

    Raises:
        ValueError: If a value is out of its range.
    """

    max_tokens: int = 256
    """The most tokens that are generated. 0 reads the prompt and writes nothing."""
    temperature: float = 1.0
    """Logits are divided by it. 0 takes the likeliest token always (greedy)."""
    top_k: int = 0
    """Only the k likeliest tokens are kept; 0 keeps all."""
    top_p: float = 1.0
    """Only the fewest likeliest tokens that together have this probability; in (0, 1]."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the likeliest; in [0, 1)."""
    typical_p: float = 1.0
    """Only the fewest tokens that together have this probability, those first whose surprise is
    nearest to the one to be expected (Meister et al. 2022); in (0, 1]."""
    repetition_penalty: float = 1.0
    """Positive logits of tokens in the prompt or generated are divided by it, negative ones
    multiplied, as Hugging Face does; above 0."""
    presence_penalty: float = 0.0
    """Taken once from the logit of every token that was generated, as OpenAI does."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit for each time that it was generated, as OpenAI does."""
    penalty_decay: float = 1.0
    """For `frequency_penalty`, the times that a token was generated fade: they are multiplied by
    this with each further token, as the authors' chat does (its alpha_decay, 0.996). It changes
    nothing of `presence_penalty`. In [0, 1]; 1 forgets nothing."""
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
        _check_range("max_tokens", self.max_tokens, self.max_tokens >= 0, "at least 0")
        for name in ("temperature", "presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _check_range(name, value, math.isfinite(value), "a finite number")
        _check_range("temperature", self.temperature, self.temperature >= 0, "at least 0")
        _check_range("top_k", self.top_k, self.top_k >= 0, "at least 0 (0 keeps all tokens)")
        _check_range("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check_range("min_p", self.min_p, 0 <= self.min_p < 1, "at least 0 and below 1")
        _check_range("typical_p", self.typical_p, 0 < self.typical_p <= 1, "above 0 and at most 1")
        _check_range(
            "penalty_decay", self.penalty_decay, 0 <= self.penalty_decay <= 1, "from 0 to 1"
        )
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

    @property
    def is_penalising(self) -> bool:
        """Whether it matters which tokens came before."""
        return self.repetition_penalty != 1 or bool(self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True)
class TokenHistory:
    """How often each token came before in this call: what the penalties look at.

    Tokens which a given state has seen in earlier calls are not among them, since a state does
    not tell them.
    """

    prompt: Float64[Tensor, " V"]
    generated: Float64[Tensor, " V"]
    faded: Float64[Tensor, " V"] | None = None
    """Those generated, counted for less the longer ago it was; None if they do not fade."""

    @classmethod
    def empty(cls, vocab_size: int, *, fades: bool = False) -> "TokenHistory":
        """Return the history of no tokens.

        Args:
            vocab_size: How many tokens there are.
            fades: Whether tokens that were generated long ago are to count for less.
        """
        zeros = torch.zeros(vocab_size, dtype=torch.float64)
        return cls(zeros, zeros.clone(), zeros.clone() if fades else None)

    def add_prompt_(self, tokens: Int[Tensor, " T"]) -> None:
        """Count tokens of the prompt; a model's rows that are no tokens are left out."""
        known = tokens[tokens < len(self.prompt)]
        self.prompt.index_add_(0, known, torch.ones(len(known), dtype=self.prompt.dtype))

    def add_generated_(self, token: int, decay: float = 1.0) -> None:
        """Count a token that was chosen.

        Args:
            token: The token.
            decay: By how much those before it fade, if they do.
        """
        self.generated[token] += 1
        if self.faded is not None:
            self.faded.mul_(decay)
            self.faded[token] += 1


Logits = Float64[Tensor, "*B V"]
Share = float | Float64[Tensor, "B 1"]
"""A setting: the same of all rows, or one of each."""
Step = Callable[[Logits, TokenHistory], Logits]


def steps_of(params: SamplingParams) -> Step:
    """Return the steps of `params` as one function: logits and history in, logits out.

    What comes out has the wanted distribution as its softmax; if `params` is greedy, its largest
    is the token. Steps that would change nothing are left out. Rows share the history.
    """
    steps: list[Step] = []
    if params.logit_bias:
        tokens, biases = as_tensors(params.logit_bias)  # once, as there may be many of them
        steps.append(lambda logits, _: with_bias(logits, tokens, biases))
    if params.repetition_penalty != 1:
        steps.append(lambda logits, h: with_repetition(logits, h, params.repetition_penalty))
    if params.presence_penalty or params.frequency_penalty:
        presence, frequency = params.presence_penalty, params.frequency_penalty
        steps.append(lambda logits, h: with_presence_and_frequency(logits, h, presence, frequency))
    if not params.is_greedy:
        steps += _steps_of_chance(params)

    def run(logits: Logits, history: TokenHistory) -> Logits:
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
    if params.typical_p < 1:
        steps.append(lambda logits, _: keep_typical(logits, params.typical_p))
    return steps


def as_tensors(bias: Mapping[int, float]) -> tuple[Int[Tensor, " n"], Float64[Tensor, " n"]]:
    """Return the tokens of a bias, and what is added to each."""
    biases = torch.tensor(list(bias.values()), dtype=torch.float64)
    return torch.tensor(list(bias), dtype=torch.int64), biases


def with_bias(logits: Logits, tokens: Int[Tensor, " n"], biases: Float64[Tensor, " n"]) -> Logits:
    """Return the logits with biases added to those of some tokens, each of which is there once."""
    biased = logits.clone()
    biased[..., tokens] += biases
    return biased


def with_repetition(logits: Logits, history: TokenHistory, penalty: float) -> Logits:
    """Return the logits with those of all tokens before moved away from likely by a factor.

    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1, with the sign rule of Hugging Face.
    """
    before = (history.prompt + history.generated).nonzero()[:, 0]  # few beside the vocabulary
    theirs = logits[..., before]
    penalised = logits.clone()
    penalised[..., before] = torch.where(theirs > 0, theirs / penalty, theirs * penalty)
    return penalised


def with_presence_and_frequency(
    logits: Logits, history: TokenHistory, presence: float, frequency: float
) -> Logits:
    """Return logits - (presence + frequency · count) for the tokens that were generated.

    Source: BlinkDL/ChatRWKV, API_DEMO_CHAT.py, for counts that fade.
    """
    before = history.generated.nonzero()[:, 0]
    counts = history.generated if history.faded is None else history.faded
    penalised = logits.clone()
    penalised[..., before] -= presence + frequency * counts[before]
    return penalised


def with_temperature(logits: Logits, temperature: Share) -> Logits:
    """Return the logits divided by a temperature above 0, shifted so that the largest is 0."""
    # Shifted first: the largest stays 0 at any temperature, and nothing becomes inf - inf.
    return (logits - logits.amax(-1, keepdim=True)).div_(temperature)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Return the logits with all below the k-th largest at minus infinity; equals are kept."""
    return keep_from(logits, logits.topk(min(k, logits.shape[-1])).values[..., -1:])


def keep_from(logits: Logits, least: Float64[Tensor, "*B 1"]) -> Logits:
    """Return the logits with all below the least that is kept at minus infinity."""
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Logits, p: Share) -> Logits:
    """Return the logits of the fewest likeliest tokens with probability `p` together.

    All others are at minus infinity. The likeliest token is always kept, and so are tokens as
    likely as the last one that is.
    """
    weight = weights(logits)
    wanted = _part_of(weight.sum(-1, keepdim=True), p)
    vocab_size = logits.shape[-1]
    # Few tokens nearly always suffice, and sorting a whole vocabulary would cost milliseconds; but
    # a device would have to be waited for to know whether they did.
    n = 128 if logits.is_cpu else vocab_size
    likeliest = weight.topk(min(n, vocab_size)).values
    while n < vocab_size and bool((likeliest.sum(-1, keepdim=True) < wanted).any()):
        n *= 8
        likeliest = weight.topk(min(n, vocab_size)).values
    n_before_last = (likeliest.cumsum(-1) < wanted).sum(-1, keepdim=True)
    last = n_before_last.clamp(max=likeliest.shape[-1] - 1)
    return logits.masked_fill(weight < likeliest.gather(-1, last), -math.inf)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Return the logits with tokens less than `p` times as likely as the likeliest forbidden."""
    return keep_from(logits, logits.amax(-1, keepdim=True) + math.log(p))


def keep_typical(logits: Logits, p: Share) -> Logits:
    """Return the logits of the fewest most typical tokens with probability `p` together.

    A token is the more typical the nearer its surprise, -ln p, is to the mean surprise H of all.
    All others are at minus infinity; tokens as typical as the last one that is kept are kept.

    Source: Meister et al. 2022, arXiv:2202.00666, section 4.
    """
    weight = weights(logits)
    total = weight.sum(-1, keepdim=True)
    shifted = logits - logits.amax(-1, keepdim=True)
    surprise = torch.where(weight > 0, (total.double() / WEIGHT_OF_LARGEST).log() - shifted, 0)
    # The sum of n tokens is at most their total times ln n, which is below 32: it fits as well.
    surprises = (weight * surprise / 32).round().long().sum(-1, keepdim=True)
    mean_surprise = 32 * surprises.double() / total.double()
    distance = torch.where(weight > 0, (surprise - mean_surprise).abs(), math.inf)
    ordered, order = distance.sort(dim=-1, stable=True)
    reached = weight.gather(-1, order).cumsum(-1)
    n_before_last = (reached < _part_of(total, p)).sum(-1, keepdim=True)
    last = n_before_last.clamp(max=logits.shape[-1] - 1)
    return logits.masked_fill(distance > ordered.gather(-1, last), -math.inf)


def draw(
    logits: Float64[Tensor, "B V"], generators: Sequence[torch.Generator]
) -> Int[Tensor, " B"]:
    """Return a token of each row, drawn from its softmax by one uniform number: `drawn_at`.

    Args:
        logits: Of the next tokens.
        generators: Where the number of each row comes from.
    """
    return drawn_at(logits, torch.stack([uniform(each) for each in generators]))


def uniform(generator: torch.Generator) -> Float64[Tensor, " 1"]:
    """Return a number in [0, 1) for one draw."""
    return torch.rand(1, generator=generator, dtype=torch.float64)


def drawn_at(logits: Float64[Tensor, "B V"], numbers: Float64[Tensor, "B 1"]) -> Int[Tensor, " B"]:
    """Return the first token of each row at which the cumulative probability exceeds a number.

    (One number per token, unlike `torch.multinomial`'s V, and independent of what else is in the
    vocabulary's tail.)

    Args:
        logits: Of the next tokens.
        numbers: From 0 to below 1.
    """
    cumulative = weights(logits).cumsum(-1)
    total = cumulative[:, -1:]
    exceeded = torch.minimum((numbers * total.double()).floor().long(), total - 1)
    return torch.searchsorted(cumulative, exceeded, right=True)[:, 0]


WEIGHT_OF_LARGEST = 2.0**44
MOST_TOKENS = 2**18
"""So many weights have a sum that an int64 holds."""


def weights(logits: Logits) -> Int64[Tensor, "*B V"]:
    """Return the probabilities up to a factor, 2⁴⁴ e^{logit - largest}, as whole numbers.

    Rounding moves no probability by more than 2⁻⁴⁵, about 3e-14. In exchange the sums are exact:
    they do not hang on the order of adding, which differs between devices and with the number of
    rows; and tokens of weight 0 can be left out.
    """
    weight = (logits - logits.amax(-1, keepdim=True)).exp_()
    return weight.mul_(WEIGHT_OF_LARGEST).round_().long()


def _part_of(total: Int64[Tensor, "*B 1"], p: Share) -> Int64[Tensor, "*B 1"]:
    """Return the least whole number that is p of a total."""
    return torch.minimum((total.double() * p).ceil().long(), total)


def _check_range(name: str, value: object, is_within: bool, range_in_words: str) -> None:
    # A comparison with NaN is false, so NaN is within no range.
    if not is_within:
        raise ValueError(f"`{name}` must be {range_in_words}, got {value!r}")
