"""A sampler chooses by its own settings and numbers alone, whatever else is chosen beside it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.inference.sampler import DivergedError, Sampler, choose_tokens
from receptance.inference.sampling import (
    SamplingParams,
    TokenHistory,
    draw,
    keep_top_p,
    keep_typical,
    steps_of,
    weights,
    with_temperature,
)

# Probabilities 0.4, 0.3, 0.2, 0.1, in another order.
LOGITS = torch.tensor([0.3, 0.1, 0.4, 0.2], dtype=torch.float64).log() + 5


def test_a_bias_for_a_token_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="`logit_bias` must name tokens below 4, got 4"):
        Sampler(SamplingParams(logit_bias={4: 1.0}), 4)


def test_zero_temperature_takes_the_likeliest_after_bias_and_penalties():
    greedy = SamplingParams(temperature=0.0, frequency_penalty=10.0, logit_bias={1: 0.1})
    chosen = Sampler(greedy, 4)

    assert [chosen.choose(LOGITS.float()) for _ in range(6)] == [2, 0, 3, 1, 2, 0]


def test_the_same_seed_gives_the_same_tokens_and_leaves_global_randomness_alone():
    before = torch.get_rng_state()

    first, second = (Sampler(SamplingParams(seed=7), 4) for _ in range(2))
    tokens = [first.choose(LOGITS.float()) for _ in range(40)]

    assert tokens == [second.choose(LOGITS.float()) for _ in range(40)]
    assert len(set(tokens)) > 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_that_was_not_given_is_drawn_and_told():
    first, second = Sampler(SamplingParams(), 4), Sampler(SamplingParams(), 4)
    assert first.seed != second.seed

    again = Sampler(SamplingParams(seed=first.seed), 4)
    assert [first.choose(LOGITS.float()) for _ in range(40)] == [
        again.choose(LOGITS.float()) for _ in range(40)
    ]


def test_rows_of_the_model_beyond_the_vocabulary_are_never_chosen():
    logits = torch.tensor([0.0, 1.0, 50.0, 60.0])

    assert Sampler(SamplingParams(temperature=0.0), 2).choose(logits) == 1


@pytest.mark.parametrize("logits", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
def test_logits_that_give_no_distribution_are_refused(logits, temperature):
    chosen = Sampler(SamplingParams(temperature=temperature, top_p=0.9, top_k=1), 2)

    with pytest.raises(DivergedError, match="the largest logit must be finite to choose a token"):
        chosen.choose(torch.tensor(logits))


KINDS = [
    {"temperature": 0.0},
    {},
    {"temperature": 0.7},
    {"temperature": 1.3, "top_k": 5},
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.7, "min_p": 0.05},
    {"min_p": 0.1},
    {"top_k": 3, "min_p": 0.01},
    {"typical_p": 0.5},
    {"typical_p": 0.9, "top_k": 30, "temperature": 1.5},
    {"repetition_penalty": 1.3, "top_p": 0.9},
    {"frequency_penalty": 1.0, "penalty_decay": 0.7},
    {"presence_penalty": 1.0, "penalty_decay": 0.7},
    {"frequency_penalty": 0.4, "presence_penalty": 0.2, "temperature": 0.0},
    {"logit_bias": {3: 2.0, 7: -math.inf}, "top_k": 4},
]
V = 301


def many_logits(n: int, *, seed: int, step: float = 0.0) -> torch.Tensor:
    """Return logits [n, V], in steps of `step`, as those of bfloat16 are, if it is not 0."""
    logits = 3 * torch.randn(n, V, generator=torch.Generator().manual_seed(seed))
    return (logits / step).round() * step if step else logits


def by_definition(params: SamplingParams, logits: torch.Tensor, n_tokens: int) -> list[int]:
    """Return tokens chosen as `sampling` defines it, over all of the vocabulary."""
    fades = params.penalty_decay < 1
    history = TokenHistory.empty(V, fades=fades)
    generator = torch.Generator().manual_seed(params.seed or 0)
    tokens = []
    for row in logits[:n_tokens].double():
        steps = steps_of(params)(row, history)
        token = int(steps.argmax() if params.is_greedy else draw(steps[None], [generator]))
        history.add_generated_(token, params.penalty_decay)
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_every_kind_chooses_what_its_steps_define(kind, step):
    params = SamplingParams(seed=5, **kind)
    sampler = Sampler(params, V)
    logits = many_logits(60, seed=1, step=step)

    assert [sampler.choose(row) for row in logits] == by_definition(params, logits, 60)


@settings(max_examples=40)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=16),
    step=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 100),
)
def test_a_sequence_gets_the_tokens_that_it_gets_alone(kinds, step, seed):
    """Though they are chosen side by side with others, of any kind, that come and go."""
    alone = [Sampler(SamplingParams(seed=row, **kind), V) for row, kind in enumerate(kinds)]
    together = [Sampler(SamplingParams(seed=row, **kind), V) for row, kind in enumerate(kinds)]
    for token in range(4):
        logits = many_logits(len(kinds), seed=100 * seed + token, step=step)
        rows = [row for row in range(len(kinds)) if (row + token) % 3]
        expected = [alone[row].choose(logits[row]) for row in rows]

        assert choose_tokens([together[row] for row in rows], logits[rows]) == expected


def test_the_numbers_behind_a_choice_do_not_depend_on_the_rows_beside_it():
    logits = many_logits(16, seed=0).double()

    def typical(x: torch.Tensor) -> torch.Tensor:
        return keep_typical(x, 0.5)

    for step in (
        lambda x: with_temperature(x, 0.7),
        lambda x: keep_top_p(x, 0.9),
        typical,
        weights,
    ):
        together = step(logits)
        for row in range(16):
            assert torch.equal(together[row : row + 1], step(logits[row : row + 1]))
            assert torch.equal(together[row], step(logits[row]))


def test_a_sequence_without_a_choice_fails_alone():
    forbidden = SamplingParams(logit_bias=dict.fromkeys(range(4), -math.inf))
    samplers = [Sampler(SamplingParams(seed=1), 4) for _ in range(3)]
    samplers.insert(1, Sampler(forbidden, 4))
    logits = LOGITS.float().repeat(4, 1)
    logits[3] = math.nan

    first, mute, second, diverged = choose_tokens(samplers, logits)

    assert first == second == Sampler(SamplingParams(seed=1), 4).choose(logits[0])
    for error in (mute, diverged):
        assert isinstance(error, ValueError)
        assert "the largest logit must be finite" in str(error)


def test_only_a_penalty_makes_a_sampler_count():
    assert len(Sampler(SamplingParams(), 50_000).history.generated) == 0
    assert len(Sampler(SamplingParams(frequency_penalty=0.1), 50).history.generated) == 50


def test_rows_beyond_the_vocabulary_are_no_tokens_of_a_prompt():
    sampler = Sampler(SamplingParams(repetition_penalty=2.0), 4)

    sampler.add_prompt([1, 1, 5])

    assert sampler.history.prompt.tolist() == [0, 2, 0, 0]


class Mask:
    """Allows some tokens, always."""

    is_over = False

    def __init__(self, tokens: list[int], n: int = V) -> None:
        self.mask = torch.zeros(n, dtype=torch.bool)
        self.mask[tokens] = True

    def allowed(self) -> torch.Tensor:
        return self.mask

    def accept(self, token: int) -> None:
        raise AssertionError(token)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_constraint_is_a_bias_that_forbids(kind):
    allowed = [2, 3, 5, 50, 299]
    bias = {**dict.fromkeys(set(range(V)) - set(allowed), -math.inf), **kind.get("logit_bias", {})}
    bias = {token: value for token, value in bias.items() if token in allowed or value == -math.inf}
    options = {name: value for name, value in kind.items() if name != "logit_bias"}
    constrained = Sampler(SamplingParams(seed=3, **kind), V, Mask(allowed))
    biased = Sampler(SamplingParams(seed=3, logit_bias=bias, **options), V)
    logits = many_logits(20, seed=2)

    tokens = [constrained.choose(row) for row in logits]

    assert tokens == [biased.choose(row) for row in logits]
    assert set(tokens) <= set(allowed)
    assert torch.equal(logits, many_logits(20, seed=2))


def test_a_constraint_changes_nothing_for_the_rows_beside_it():
    samplers = [
        Sampler(SamplingParams(seed=1), V, Mask([7]) if row == 1 else None) for row in range(3)
    ]
    logits = many_logits(1, seed=3).repeat(3, 1)

    first, constrained, last = choose_tokens(samplers, logits)

    assert constrained == 7
    assert first == last == Sampler(SamplingParams(seed=1), V).choose(logits[0])


def test_what_breaks_in_a_sampler_is_its_own():
    def fail(*_: object) -> torch.Tensor:
        raise MemoryError

    samplers = [Sampler(SamplingParams(seed=1), V) for _ in range(3)]
    samplers[0].steps = fail
    logits = many_logits(1, seed=3).repeat(3, 1)

    broken, *good = choose_tokens(samplers, logits)

    assert isinstance(broken, MemoryError)
    assert good == [Sampler(SamplingParams(seed=1), V).choose(logits[0])] * 2


def test_who_forbids_every_token_is_told_so_and_the_model_is_not_blamed():
    forbidden = SamplingParams(logit_bias=dict.fromkeys(range(V), -math.inf))
    for sampler in (Sampler(forbidden, V), Sampler(SamplingParams(), V, Mask([]))):
        with pytest.raises(ValueError, match="leave a token that may be chosen") as failed:
            sampler.choose(many_logits(1, seed=0)[0])
        assert not isinstance(failed.value, DivergedError)
