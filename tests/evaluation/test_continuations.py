"""A continuation costs what it costs alone, however many share its context."""

import math

import pytest
import torch
from torch.testing import assert_close

from receptance.evaluation import score_continuations
from receptance.inference import LanguageModel
from tests.random_models import random_rwkv4
from tests.tolerances import ALGEBRA

V = 17
PAIRS = [
    ([1, 2, 3], [4, 5]),
    ([6], [7]),
    ([1, 2, 3], [8, 9, 10, 11, 12, 13, 14]),
    ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1]),
    ([1, 2, 3], []),
    ([2, 2, 3], [4, 5]),
    ([6], [7, 7, 7]),
]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(random_rwkv4(2, 12, V, dtype=torch.float64), None)


def logprobs(scored) -> torch.Tensor:
    return torch.tensor([each.logprob for each in scored], dtype=torch.float64)


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 512])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_each_costs_what_it_costs_alone(lm, forks, chunk, batch_size):
    scored = score_continuations(lm, PAIRS, batch_size=batch_size, chunk=chunk, forks=forks)

    alone = [sum(lm.score(context, continuation)) for context, continuation in PAIRS]
    assert_close(logprobs(scored), torch.tensor(alone, dtype=torch.float64), **ALGEBRA)


def test_in_float32_forks_and_batches_change_no_bit():
    lm = LanguageModel(random_rwkv4(2, 32, 300), None)
    generator = torch.Generator().manual_seed(0)

    def tokens(most: int) -> list[int]:
        n = int(torch.randint(1, most, (1,), generator=generator))
        return torch.randint(300, (n,), generator=generator).tolist()

    pairs = [(context, tokens(9)) for context in [tokens(60) for _ in range(5)] for _ in range(4)]

    found = [
        score_continuations(lm, pairs, batch_size=batch_size, forks=forks)
        for batch_size in (1, 3, 16)
        for forks in (True, False)
    ]

    assert all(each == found[0] for each in found)
    assert [each.logprob for each in found[0]] == [math.fsum(lm.score(*pair)) for pair in pairs]


def test_one_that_greedy_decoding_gives_is_told_from_one_that_it_does_not(lm):
    context, greedy = [3, 1, 4], []
    for _ in range(4):
        greedy.append(int(lm.forward(context + greedy)[0].argmax()))
    others = [[*greedy[:i], (greedy[i] + 1) % V, *greedy[i + 1 :]] for i in range(4)]

    scored = score_continuations(lm, [(context, each) for each in (greedy, *others)])

    assert [each.is_greedy for each in scored] == [True, False, False, False, False]


def test_a_shared_context_is_read_once(lm, monkeypatch):
    fed = 0
    features = lm.model.features

    def counting(tokens, state):
        nonlocal fed
        fed += tokens.numel()
        return features(tokens, state)

    monkeypatch.setattr(lm.model, "features", counting)
    context = [int(each) for each in torch.randint(V, (40,))]
    pairs = [(context, [1]), (context, [2]), (context, [3, 4]), (context, [5, 6])]

    score_continuations(lm, pairs)
    assert fed == 40 + 4  # what follows the last token of a continuation is not asked for
    score_continuations(lm, pairs, forks=False)
    assert fed == 44 + 4 * 40 + 4


def test_each_begins_from_the_start_of_the_model(lm):
    state = lm.prefill([5, 6])

    found = score_continuations(lm.starting_from(state), [([1], [2, 3])])

    expected = math.fsum(lm.score([1], [2, 3], state))
    assert found[0].logprob == pytest.approx(expected, rel=1e-10)
    assert found[0].logprob != pytest.approx(sum(lm.score([1], [2, 3])), rel=1e-3)


def test_without_a_context_nothing_can_be_predicted(lm):
    with pytest.raises(ValueError, match=r"a context must have at least one token, .* of 1 has 0"):
        score_continuations(lm, [([1], [2]), ([], [2])])
