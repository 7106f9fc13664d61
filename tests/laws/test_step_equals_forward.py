"""Law 7: decoding is reading, token by token; and neither sees what else is computed beside it.

The step of a packed model and the model's forward are two programs. Each gives a sequence the same
bits in any company, however its text is cut, on any number of threads; from each other they differ
by the order of the matrices' sums.
"""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from receptance.models import RWKV4, LowRankChanges, RWKV4State, changed_model
from receptance.ops.native import library_obstacle
from tests.random_models import random_changes, random_rwkv4, random_tokens, with_matrices
from tests.tolerances import BFLOAT16_LOGITS, FLOAT32_LOGITS

pytestmark = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))

V, T, SLOTS = 41, 64, 40
DTYPES = (torch.float32, torch.bfloat16)
law = settings(max_examples=25, deadline=None, derandomize=True)


def make_model(n_embd: int, dtype: torch.dtype) -> RWKV4:
    """Return a model with matrices of `dtype`; all else is float32."""
    return with_matrices(random_rwkv4(3, n_embd, V), dtype).requires_grad_(False)


MODELS = {dtype: make_model(48, dtype) for dtype in DTYPES}


def steps(
    model: RWKV4,
    tokens: Tensor,
    pool: RWKV4State,
    slots: Tensor,
    changes: Sequence[LowRankChanges | None] = (),
) -> Tensor:
    """Return the logits [B, T, V] of tokens [B, T], fed one by one to the sequences at `slots`."""
    packed = model.pack(skips_zeros=True)
    columns = tokens.unbind(1)
    return torch.stack([packed.step(column, pool, slots, changes) for column in columns], dim=1)


def assert_same_bits(found: RWKV4State, expected: RWKV4State) -> None:
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, expected.tensors[name]), name


@pytest.mark.parametrize("n_embd", [48, 64, 96])
def test_stepping_in_float32_is_reading(n_embd):
    model = make_model(n_embd, torch.float32)
    tokens, pool = random_tokens(3, T, V), model.zero_state(5)
    logits = steps(model, tokens, pool, torch.tensor([4, 0, 2]))
    expected, state = model(tokens)
    assert_close(logits, expected, rtol=0, atol=FLOAT32_LOGITS)
    found = pool.select([4, 0, 2])
    assert_close(found.num / found.den, state.num / state.den, rtol=0, atol=FLOAT32_LOGITS)
    for name in ("time_mix_x", "channel_mix_x", "log_scale"):
        assert_close(found.tensors[name], state.tensors[name], rtol=0, atol=FLOAT32_LOGITS)


@pytest.mark.parametrize("n_embd", [48, 64, 96])
def test_stepping_in_bfloat16_is_reading_but_for_its_roundings(n_embd):
    model = make_model(n_embd, torch.bfloat16)
    tokens = random_tokens(3, T, V)
    logits = steps(model, tokens, model.zero_state(3), torch.arange(3))
    expected = model(tokens)[0].float()
    distance = (logits - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert distance <= BFLOAT16_LOGITS


@pytest.mark.parametrize("dtype", DTYPES)
def test_stepping_with_changes_for_each_sequence_is_reading_with_each(dtype):
    model, tokens = make_model(48, dtype), random_tokens(4, T, V)
    one, other = random_changes(model, seed=1), random_changes(model, rank=7, seed=2)
    changes = [other, None, one, other]
    logits = steps(model, tokens, model.zero_state(4), torch.tensor([3, 1, 0, 2]), changes)
    for row, each in enumerate(changes):
        changed = model if each is None else changed_model(model, each)
        expected = changed(tokens[row : row + 1])[0][0].float()
        difference = logits[row] - expected
        if dtype == torch.float32:
            assert difference.abs().max() <= FLOAT32_LOGITS
        distance = difference.square().mean().sqrt() / expected.square().mean().sqrt()
        assert distance <= BFLOAT16_LOGITS


@pytest.mark.parametrize("n_embd", [48, 64, 96])
def test_256_tokens_chosen_greedily_are_the_same_from_both(n_embd):
    model = make_model(n_embd, torch.float32)
    packed, pool, slot = model.pack(skips_zeros=True), model.zero_state(1), torch.tensor([0])
    token, state = torch.tensor([1]), model.zero_state(1)
    for _ in range(256):
        logits, state = model(token[:, None], state)
        stepped = packed.step(token, pool, slot)
        token = logits[:, -1].argmax(-1)
        assert torch.equal(stepped.argmax(-1), token)


@pytest.mark.parametrize("dtype", DTYPES)
@law
@given(ends=st.sets(st.integers(1, T - 1)))
def test_a_prompt_gives_the_same_bits_however_it_is_cut(dtype, ends):
    model, tokens = MODELS[dtype], random_tokens(2, T, V)
    expected, expected_state = model(tokens)
    pieces, state, start = [], None, 0
    for end in [*sorted(ends), T]:
        logits, state = model(tokens[:, start:end], state)
        pieces.append(logits)
        start = end
    assert state is not None
    assert torch.equal(torch.cat(pieces, dim=1), expected)
    assert_same_bits(state, expected_state)


@pytest.mark.parametrize("dtype", DTYPES)
@law
@given(lengths=st.lists(st.integers(1, T), min_size=1, max_size=5))
def test_a_prompt_gives_the_same_bits_in_any_company(dtype, lengths):
    """Shorter rows are padded on the right with tokens that must not matter."""
    model, tokens = MODELS[dtype], random_tokens(len(lengths), max(lengths), V)
    logits, _ = model(tokens)
    for row, length in enumerate(lengths):
        alone, _ = model(tokens[row : row + 1, :length])
        assert torch.equal(logits[row : row + 1, :length], alone)


def poisoned_pool(model: RWKV4, slots: Tensor) -> RWKV4State:
    """Return a pool in which the sequences at `slots` are new, and all others NaN."""
    pool = model.zero_state(SLOTS)
    others = [slot for slot in range(SLOTS) if slot not in slots.tolist()]
    for tensor in pool.tensors.values():
        tensor[:, others] = float("nan")
    return pool


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, 3, 16, 33])
def test_a_step_gives_the_same_bits_in_any_company_and_leaves_other_slots_alone(batch, dtype):
    model, tokens = MODELS[dtype], random_tokens(batch, 4, V)
    slots = torch.randperm(SLOTS, generator=torch.Generator().manual_seed(batch))[:batch]
    pool = poisoned_pool(model, slots)
    logits = steps(model, tokens, pool, slots)
    others = [slot for slot in range(SLOTS) if slot not in slots.tolist()]
    for tensor in pool.tensors.values():
        assert tensor[:, others].isnan().all()
    for row, slot in enumerate(slots.tolist()):
        alone = model.zero_state(1)
        expected = steps(model, tokens[row : row + 1], alone, torch.tensor([0]))
        assert torch.equal(logits[row : row + 1], expected)
        assert_same_bits(pool.select([slot]), alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    model, tokens = make_model(96, dtype), random_tokens(3, T, V)
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            pool = model.zero_state(3)
            found.append((steps(model, tokens, pool, torch.arange(3)), pool, *model(tokens)))
    finally:
        torch.set_num_threads(before)
    (stepped, pool, read, state), (stepped_2, pool_2, read_2, state_2) = found
    assert torch.equal(stepped, stepped_2)
    assert torch.equal(read, read_2)
    assert_same_bits(pool, pool_2)
    assert_same_bits(state, state_2)
