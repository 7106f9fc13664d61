"""Law 2: a sequence in a batch is the sequence alone, whatever shares its batch."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from receptance.models import RWKV4State
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import ALGEBRA

V = 17
MODEL = random_rwkv4(2, 12, V, dtype=torch.float64).requires_grad_(False)

law = settings(max_examples=25, deadline=None, derandomize=True)
ragged = st.lists(st.integers(1, 16), min_size=1, max_size=5)


@law
@given(lengths=ragged, seed=st.integers(0, 1000))
def test_rows_of_a_ragged_batch_are_the_sequences_alone(lengths, seed):
    """Shorter rows are padded on the right with tokens that must not matter."""
    tokens = random_tokens(len(lengths), max(lengths), V, seed=seed)
    logits, _ = MODEL(tokens)
    for row, length in enumerate(lengths):
        alone, _ = MODEL(tokens[row : row + 1, :length])
        assert_close(logits[row : row + 1, :length], alone, **ALGEBRA)


@law
@given(lengths=ragged, data=st.data())
def test_sequences_may_join_leave_and_change_places_between_calls(lengths, data):
    """Each read alone at first, then batched by concatenate and select, then alone again."""
    texts = [random_tokens(1, n, V, seed=row) for row, n in enumerate(lengths)]
    more = random_tokens(len(lengths), 3, V, seed=99)
    states = [MODEL(text)[1] for text in texts]
    rows = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, max_size=6))

    batch = RWKV4State.concatenate(states).select(rows)
    logits, after = MODEL(more[rows], batch)
    for place, row in enumerate(rows):
        expected, _ = MODEL(torch.cat([texts[row], more[row : row + 1]], dim=1))
        assert_close(logits[place : place + 1], expected[:, -3:], **ALGEBRA)
        last, _ = MODEL(more[row : row + 1, :1], after.select([place]))
        longer = torch.cat([texts[row], more[row : row + 1], more[row : row + 1, :1]], dim=1)
        assert_close(last, MODEL(longer)[0][:, -1:], **ALGEBRA)
