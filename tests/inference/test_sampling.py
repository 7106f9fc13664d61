"""Every step from logits to a token does to a distribution what its definition says."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from receptance.inference.sampling import (
    SamplingParams,
    TokenHistory,
    as_tensors,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    steps_of,
    with_bias,
    with_presence_and_frequency,
    with_repetition,
    with_temperature,
)

# Probabilities 0.4, 0.3, 0.2, 0.1, in another order.
PROBABILITIES = torch.tensor([0.3, 0.1, 0.4, 0.2], dtype=torch.float64)
LOGITS = PROBABILITIES.log() + 5


def probabilities(logits: torch.Tensor) -> list[float]:
    return [round(p, 9) for p in logits.softmax(-1).tolist()]


def history(prompt: list[int], generated: list[int]) -> TokenHistory:
    counts = TokenHistory.empty(4)
    counts.add_prompt_(torch.tensor(prompt, dtype=torch.long))
    for token in generated:
        counts.add_generated_(token)
    return counts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_tokens": -1}, "`max_tokens` must be at least 0, got -1"),
        ({"max_tokens": True}, "`max_tokens` must be an integer, got True"),
        ({"top_k": False}, "`top_k` must be an integer, got False"),
        ({"temperature": -1.0}, "`temperature` must be at least 0, got -1.0"),
        ({"temperature": math.nan}, "`temperature` must be a finite number, got nan"),
        ({"temperature": math.inf}, "`temperature` must be a finite number, got inf"),
        ({"top_k": -1}, "`top_k` must be at least 0 (0 keeps all tokens), got -1"),
        ({"top_p": 0.0}, "`top_p` must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "`top_p` must be above 0 and at most 1, got 1.1"),
        ({"top_p": math.nan}, "`top_p` must be above 0 and at most 1, got nan"),
        ({"typical_p": 0.0}, "`typical_p` must be above 0 and at most 1, got 0.0"),
        ({"typical_p": 1.1}, "`typical_p` must be above 0 and at most 1, got 1.1"),
        ({"penalty_decay": -0.1}, "`penalty_decay` must be from 0 to 1, got -0.1"),
        ({"penalty_decay": math.nan}, "`penalty_decay` must be from 0 to 1, got nan"),
        ({"min_p": 1.0}, "`min_p` must be at least 0 and below 1, got 1.0"),
        ({"repetition_penalty": 0.0}, "`repetition_penalty` must be above 0 and finite, got 0.0"),
        ({"presence_penalty": math.inf}, "`presence_penalty` must be a finite number, got inf"),
        ({"frequency_penalty": math.nan}, "`frequency_penalty` must be a finite number, got nan"),
        ({"seed": -1}, "`seed` must be from 0 to 2**63 - 1, got -1"),
        ({"seed": 2**63}, "`seed` must be from 0 to 2**63 - 1"),
        ({"stop": ("a", "")}, "`stop` must be a tuple of texts that are not empty, got ('a', '')"),
        ({"logit_bias": {-1: 1.0}}, "got 1.0 for the token -1"),
        ({"logit_bias": {1: math.nan}}, "got nan for the token 1"),
        ({"logit_bias": {1: math.inf}}, "got inf for the token 1"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(change, words):
    with pytest.raises(ValueError, match="must") as raised:
        SamplingParams(**change)

    assert words in str(raised.value)


def test_params_are_a_value():
    params = SamplingParams(temperature=0.5, logit_bias={1: 2.0})

    assert params == SamplingParams(temperature=0.5, logit_bias={1: 2.0})
    assert hash(params) == hash(SamplingParams(temperature=0.5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.temperature = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_without_options_logits_come_through_as_they_are():
    assert torch.equal(steps_of(SamplingParams())(LOGITS, history([0], [1])), LOGITS)


def test_a_bias_is_added():
    assert with_bias(LOGITS, *as_tensors({1: 2.5, 3: -math.inf})).tolist() == [
        LOGITS[0].item(),
        LOGITS[1].item() + 2.5,
        LOGITS[2].item(),
        -math.inf,
    ]


def test_repetition_counts_the_prompt_and_moves_either_sign_towards_unlikely():
    logits = torch.tensor([2.0, -2.0, 2.0, 0.0], dtype=torch.float64)

    penalised = with_repetition(logits, history([0, 0], [1]), 4.0)

    assert penalised.tolist() == [0.5, -8.0, 2.0, 0.0]


def test_presence_and_frequency_count_generated_tokens_only():
    penalised = with_presence_and_frequency(LOGITS, history([0, 1], [2, 2, 3]), 0.5, 0.25)

    assert (LOGITS - penalised).tolist() == pytest.approx([0.0, 0.0, 1.0, 0.75])


def test_temperature_raises_probabilities_to_a_power():
    squared = PROBABILITIES.square() / PROBABILITIES.square().sum()

    assert probabilities(with_temperature(LOGITS, 0.5)) == pytest.approx(squared.tolist())


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45])
def test_the_smallest_temperatures_are_greedy(temperature):
    assert probabilities(with_temperature(LOGITS, temperature)) == [0, 0, 1, 0]


def test_the_greatest_temperature_makes_all_tokens_equal():
    assert probabilities(with_temperature(LOGITS, 1e308)) == [0.25] * 4


@pytest.mark.parametrize(
    ("k", "kept"),
    [
        (1, [0, 0, 1, 0]),
        (2, [3 / 7, 0, 4 / 7, 0]),
        (4, [0.3, 0.1, 0.4, 0.2]),
        (9, [0.3, 0.1, 0.4, 0.2]),
    ],
)
def test_top_k_keeps_the_k_likeliest(k, kept):
    assert probabilities(keep_top_k(LOGITS, k)) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (1e-9, [0, 0, 1, 0]),
        (0.39, [0, 0, 1, 0]),
        (0.41, [3 / 7, 0, 4 / 7, 0]),
        (0.69, [3 / 7, 0, 4 / 7, 0]),
        (0.71, [3 / 9, 0, 4 / 9, 2 / 9]),
        (0.99, [0.3, 0.1, 0.4, 0.2]),
        (1 - 2**-53, [0.3, 0.1, 0.4, 0.2]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_p(p, kept):
    assert probabilities(keep_top_p(LOGITS, p)) == pytest.approx(kept)


@given(st.floats(0.01, 0.9999), st.integers(0, 1000))
def test_top_p_over_a_large_vocabulary_is_what_sorting_all_of_it_gives(p, seed):
    logits = torch.randn(3000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ordered = logits.softmax(-1).sort(descending=True).values
    n_expected = 1 + int((ordered.cumsum(0) < p).sum())

    kept = keep_top_p(logits, p).isfinite()

    assert kept.sum() == n_expected
    assert torch.equal(logits[kept].sort().values, logits.sort().values[-n_expected:])


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.2, [0.3, 0.1, 0.4, 0.2]), (0.3, [3 / 9, 0, 4 / 9, 2 / 9]), (0.8, [0, 0, 1, 0])],
)
def test_min_p_keeps_what_is_likely_beside_the_likeliest(p, kept):
    assert probabilities(keep_min_p(LOGITS, p)) == pytest.approx(kept)


# The mean surprise is 1.28, and those of the tokens are 1.20, 2.30, 0.92 and 1.61.
@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (1e-9, [1, 0, 0, 0]),
        (0.29, [1, 0, 0, 0]),
        (0.31, [3 / 5, 0, 0, 2 / 5]),
        (0.51, [3 / 9, 0, 4 / 9, 2 / 9]),
        (0.91, [0.3, 0.1, 0.4, 0.2]),
    ],
)
def test_typical_keeps_the_fewest_of_usual_surprise_that_reach_p(p, kept):
    assert probabilities(keep_typical(LOGITS, p)) == pytest.approx(kept)


@given(st.floats(0.01, 0.9999), st.integers(0, 1000))
def test_what_is_forbidden_makes_no_difference_to_what_is_typical(p, seed):
    logits = torch.randn(30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with_more = torch.full((60,), -math.inf, dtype=torch.float64)
    with_more[::2] = logits

    assert torch.equal(keep_typical(with_more, p)[::2], keep_typical(logits, p))
    assert not keep_typical(with_more, p)[1::2].isfinite().any()


def test_of_equally_typical_tokens_all_are_kept():
    assert keep_typical(torch.zeros(7, dtype=torch.float64), 0.1).isfinite().all()


def test_counts_fade_for_the_frequency_penalty_alone():
    counts = TokenHistory.empty(4, fades=True)
    for token in (2, 2, 3):
        counts.add_generated_(token, 0.5)

    penalised = with_presence_and_frequency(LOGITS, counts, 1.0, 8.0)

    # Of token 2: (1 + 0.5) · 0.5 times.
    assert (LOGITS - penalised).tolist() == pytest.approx([0.0, 0.0, 1 + 8 * 0.75, 1 + 8])


def test_steps_come_in_their_documented_order():
    params = SamplingParams(
        logit_bias={1: 3.0}, repetition_penalty=1.5, presence_penalty=0.3, temperature=0.7, top_k=3,
        top_p=0.8, min_p=0.1, typical_p=0.6,
    )  # fmt: skip
    seen = history([0], [2])

    expected = with_repetition(with_bias(LOGITS, *as_tensors({1: 3.0})), seen, 1.5)
    expected = with_temperature(with_presence_and_frequency(expected, seen, 0.3, 0.0), 0.7)
    expected = keep_min_p(keep_top_p(keep_top_k(expected, 3), 0.8), 0.1)
    expected = keep_typical(expected, 0.6)

    assert torch.equal(steps_of(params)(LOGITS, seen), expected)


def test_draws_follow_the_distribution():
    generator = torch.Generator().manual_seed(0)
    n = 20_000

    counts = torch.bincount(draw(LOGITS.expand(n, 4), [generator] * n), minlength=4).double()

    # Chi-squared with 3 degrees of freedom exceeds 16.3 once in a thousand; the seed is fixed.
    assert ((counts - n * PROBABILITIES).square() / (n * PROBABILITIES)).sum() < 16.3


def test_a_forbidden_token_is_never_drawn():
    logits = torch.tensor([-math.inf, 0.0, -math.inf, -math.inf], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    assert set(draw(logits.expand(200, 4), [generator] * 200).tolist()) == {1}


def test_penalties_are_as_exact_as_all_else():
    """A factor that is 0 or 1 must not be multiplied in float32, where 1e308 is infinite."""
    seen = history([], [2])

    assert with_presence_and_frequency(LOGITS, seen, 0.1, 0.0)[2] == LOGITS[2] - 0.1
    assert with_presence_and_frequency(LOGITS, seen, 1e308, 0.0).isfinite().all()
