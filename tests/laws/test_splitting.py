"""Law 1: a text read in pieces, with the state carried, is the text read at once."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from receptance.models import RWKV4State
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import ALGEBRA

T, V = 24, 17
MODEL = random_rwkv4(2, 12, V, dtype=torch.float64).requires_grad_(False)
TOKENS = random_tokens(2, T, V)

lengths = st.lists(st.integers(1, T), min_size=1, max_size=T).map(
    lambda ends: sorted({*ends, T})  # where each piece ends
)
resets = st.lists(st.booleans(), min_size=2 * T, max_size=2 * T).map(
    lambda flags: torch.tensor(flags).view(2, T)
)
law = settings(max_examples=25, deadline=None, derandomize=True)


def assert_same_state(found: RWKV4State, expected: RWKV4State) -> None:
    """Compare what the states mean: `log_scale` is a unit, not a quantity."""
    assert_close(found.time_mix_x, expected.time_mix_x, **ALGEBRA)
    assert_close(found.channel_mix_x, expected.channel_mix_x, **ALGEBRA)
    assert_close(found.num / found.den, expected.num / expected.den, **ALGEBRA)
    log_weights = (each.den.log() + each.log_scale for each in (found, expected))
    assert_close(*log_weights, **ALGEBRA)


@law
@given(ends=lengths, resets=resets)
def test_splitting_a_sequence_anywhere_changes_nothing(ends, resets):
    expected, expected_state = MODEL(TOKENS, resets=resets)
    logits, state, start = [], None, 0
    for end in ends:
        piece, state = MODEL(TOKENS[:, start:end], state, resets=resets[:, start:end])
        logits.append(piece)
        start = end
    assert state is not None
    assert_close(torch.cat(logits, dim=1), expected, **ALGEBRA)
    assert_same_state(state, expected_state)


@law
@given(starts=st.sets(st.integers(0, T - 1)))
def test_resets_make_the_documents_of_a_sequence_strangers(starts):
    """In token shift and WKV alike, and in the state that is left."""
    resets = torch.zeros(2, T, dtype=torch.bool)
    resets[0, sorted(starts)] = True  # the other row is one document
    logits, state = MODEL(TOKENS, resets=resets)

    bounds = [0, *sorted(starts - {0}), T]
    documents = [TOKENS[:1, a:b] for a, b in pairwise(bounds)]
    alone = [MODEL(document) for document in documents]
    assert_close(logits[:1], torch.cat([each for each, _ in alone], dim=1), **ALGEBRA)
    assert_same_state(state.select([0]), alone[-1][1])

    whole, whole_state = MODEL(TOKENS[1:])
    assert_close(logits[1:], whole, **ALGEBRA)
    assert_same_state(state.select([1]), whole_state)
