"""A step changes the states at its slots as the model's forward does, and no others."""

import pytest
import torch

from receptance.models import LowRank, LowRankChanges, PackedModel, changed_model
from receptance.models.packed import check_step, join_rows
from receptance.quantization import quantize_model
from tests.random_models import random_changes, random_rwkv4, random_tokens, with_matrices

V = 17
MODEL = random_rwkv4(2, 12, V, dtype=torch.float64).requires_grad_(False)
PACKED = MODEL.pack()


def pool_of(n_slots: int):
    """Return states that have seen a few tokens each, no two the same."""
    return MODEL(random_tokens(n_slots, 3, V))[1]


def test_a_model_packs_into_a_packed_model():
    assert isinstance(PACKED, PackedModel)


@pytest.mark.parametrize("slots", [[0], [3, 1], [4, 0, 2, 1, 3]])
def test_the_slots_see_a_token_each_and_the_others_nothing(slots):
    pool = pool_of(5)
    before = pool.clone()
    tokens = random_tokens(len(slots), 1, V, seed=7)[:, 0]

    logits = PACKED.step(tokens, pool, torch.tensor(slots))

    expected, state = MODEL(tokens[:, None], before.select(slots))
    others = [slot for slot in range(5) if slot not in slots]
    assert torch.equal(logits, expected[:, -1])
    for name, tensor in pool.tensors.items():
        assert torch.equal(tensor[:, slots], state.tensors[name]), name
        assert torch.equal(tensor[:, others], before.tensors[name][:, others]), name


def test_each_sequence_is_fed_to_its_own_changes_of_the_model():
    one, other = random_changes(MODEL, seed=1), random_changes(MODEL, seed=2)
    pool = pool_of(5)
    before = pool.clone()
    tokens = random_tokens(4, 1, V, seed=7)[:, 0]
    slots, changes = [4, 0, 2, 1], [one, None, other, one]

    logits = PACKED.step(tokens, pool, torch.tensor(slots), changes)

    for row, (slot, each) in enumerate(zip(slots, changes, strict=True)):
        model = MODEL if each is None else changed_model(MODEL, each)
        expected, state = model(tokens[row : row + 1, None], before.select([slot]))
        # PyTorch's product of float64 rounds by the number of rows.
        torch.testing.assert_close(logits[row], expected[0, -1], rtol=0, atol=1e-12)
        for name, tensor in pool.tensors.items():
            after = state.tensors[name][:, 0]
            torch.testing.assert_close(tensor[:, slot], after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_a_step_waits_for_no_device(precision):
    """On the device `meta`, whose tensors hold nothing, whatever reads a number back raises."""
    model = random_rwkv4(2, 12, V)
    if precision.startswith("int"):
        model = quantize_model(model, precision)
    model = with_matrices(model, torch.bfloat16) if precision == "bfloat16" else model
    model = model.to("meta")
    pool = model.zero_state(3)
    layers = random_changes(random_rwkv4(2, 12, V)).layers
    changes = LowRankChanges(
        {name: LowRank(*(factor.to("meta") for factor in each)) for name, each in layers.items()}
    )

    for theirs in ((), [None, changes]):
        logits = model.pack().step(torch.tensor([1, 2]), pool, torch.tensor([2, 0]), theirs)

        assert (list(logits.shape), logits.device.type) == ([2, V], "meta")


def test_rows_that_were_computed_apart_come_back_in_order():
    logits = torch.arange(8.0).reshape(4, 2)
    for rows in ([[2], [3, 0], [1]], [[], [1, 3, 0, 2]], [[0, 1, 2, 3]]):
        assert torch.equal(join_rows(rows, [logits[part] for part in rows]), logits)


def test_there_is_one_change_for_each_token():
    with pytest.raises(ValueError, match=r"`changes` must be one for each of 1 tokens, got 2"):
        PACKED.step(torch.tensor([1]), pool_of(2), torch.tensor([0]), [None, None])


def test_a_step_has_no_graph():
    model = random_rwkv4(2, 12, V)
    pool = model.zero_state(2)

    logits = model.pack().step(torch.tensor([1]), pool, torch.tensor([0]))

    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert not any(tensor.requires_grad for tensor in pool.tensors.values())


@pytest.mark.parametrize(
    ("tokens", "slots", "words"),
    [
        ([1, V], [0, 1], "`tokens` must be from 0 to 16, got 17"),
        ([-1, 1], [0, 1], "`tokens` must be from 0 to 16, got -1"),
        ([1, 2], [0, 3], "`slots` must be from 0 to 2, got 3"),
        ([1, 2], [-1, 0], "`slots` must be from 0 to 2, got -1"),
        ([1, 2], [2, 2], r"`slots` must differ from each other, got \[2, 2\]"),
    ],
)
def test_what_is_no_step_is_refused_before_anything_changes(tokens, slots, words):
    pool = pool_of(3)
    before = pool.clone()

    with pytest.raises(ValueError, match=words):
        PACKED.step(torch.tensor(tokens), pool, torch.tensor(slots))
    with pytest.raises(ValueError, match=words):
        check_step(torch.tensor(tokens), pool, torch.tensor(slots), V)

    assert all(torch.equal(t, before.tensors[name]) for name, t in pool.tensors.items())
