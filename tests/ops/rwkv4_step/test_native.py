"""The native step in every instruction set and format.

That it is the model's forward, tests/laws/test_step_equals_forward.py shows; that it is RWKV-4 in
double, native/tests/test_rwkv4_step.cpp.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.rwkv4_step import (
    CHANGEABLE,
    RWKV4ChangesPlan,
    RWKV4Plan,
    RWKV4Weights,
    native_obstacle,
    rwkv4_changes_plan,
    rwkv4_plan,
    rwkv4_step,
)
from tests.step_weights import KINDS, SLOTS, C, Kind, L, V, make_pool, make_weights, numbers

pytestmark = [
    pytest.mark.usefixtures("_poisoned_memory"),
    pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle())),
]


def make_plan(kind: Kind) -> RWKV4Plan:
    format = kind if isinstance(kind, QuantizedFormat) else None
    return rwkv4_plan(make_weights(kind), vocab_size=V, eps=1e-5, format=format)


def make_changes(plan: RWKV4Plan, rank: int) -> RWKV4ChangesPlan:
    """Return changes of each matrix, with ranks from `rank` on."""
    generator = torch.Generator().manual_seed(rank)
    changes = {}
    for layer, name in itertools.product(range(L), CHANGEABLE):
        n_out, n_in = (4 if "channel_" + each == name else 1 for each in ("key", "value"))
        a = torch.randn(rank, n_in * C, generator=generator) * (n_in * C) ** -0.5
        changes[layer, name] = (a, torch.randn(n_out * C, rank, generator=generator) * rank**-0.5)
        rank += 1
    return rwkv4_changes_plan(plan, changes)


def step(
    plan: RWKV4Plan,
    tokens: Tensor,
    pool: list[Tensor],
    slots: Tensor,
    instruction_set: str,
    changes: Sequence[RWKV4ChangesPlan | None] = (),
) -> Tensor:
    number = instruction_sets()[instruction_set]
    plans = [torch.tensor([], dtype=torch.uint8) if each is None else each.data for each in changes]
    return torch.ops.receptance.rwkv4_step(plan.data, tokens, *pool, slots, plans, number)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_instruction_set_gives_nearly_the_portable_ones_numbers(kind, instruction_set):
    plan, tokens, slots = make_plan(kind), numbers(0, 18, 3), numbers(4, 0, 19)
    changes = [make_changes(plan, 1), None, make_changes(plan, 33)]
    portable, found = make_pool(), make_pool()
    expected = step(plan, tokens, portable, slots, "portable", changes)
    logits = step(plan, tokens, found, slots, instruction_set, changes)
    # Float32 rounds a few hundred times; elsewhere a rounding may tip a number over to the next
    # unit of bfloat16 or level of int8, of which the sums take a part.
    tolerance = 1e-5 if kind == torch.float32 else 0.03
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found, portable, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 3, 16, 19])
def test_a_sequence_has_the_same_bits_in_any_company(batch, kind, instruction_set):
    plan = make_plan(kind)
    generator = torch.Generator().manual_seed(2)
    slots = torch.randperm(SLOTS, generator=generator)[:batch]
    tokens = torch.randint(V, (batch,), generator=generator)
    some = [make_changes(plan, 3), None, make_changes(plan, 8), None, None]
    changes = [some[b % 5] for b in range(batch)]
    together = make_pool()
    logits = step(plan, tokens, together, slots, instruction_set, changes)
    alone = make_pool()
    for b in range(batch):
        of_b = slice(b, b + 1)
        theirs = changes[of_b] if changes[b] else ()
        row = step(plan, tokens[of_b], alone, slots[of_b], instruction_set, theirs)
        assert torch.equal(row[0], logits[b])
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_other_slots_are_neither_read_nor_written(kind):
    plan, slots = make_plan(kind), numbers(4, 0)
    clean, poisoned = make_pool(), make_pool()
    others = [slot for slot in range(SLOTS) if slot not in slots.tolist()]
    for tensor in poisoned:
        tensor[:, others] = float("nan")
    logits = rwkv4_step(plan, numbers(1, 2), poisoned, slots)
    assert torch.equal(logits, rwkv4_step(plan, numbers(1, 2), clean, slots))
    for tensor, expected in zip(poisoned, clean, strict=True):
        assert torch.equal(tensor[:, slots], expected[:, slots])
        assert tensor[:, others].isnan().all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nan_in_one_sequence_stays_there(kind):
    plan, slots = make_plan(kind), numbers(3, 5, 1)
    clean, poisoned = make_pool(), make_pool()
    poisoned[0][0, 5] = float("nan")
    expected = rwkv4_step(plan, numbers(1, 2, 3), clean, slots)
    logits = rwkv4_step(plan, numbers(1, 2, 3), poisoned, slots)
    assert logits[1].isnan().all()
    assert torch.equal(logits[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.usefixtures("_restored_threads")
def test_bits_do_not_depend_on_the_number_of_threads(kind):
    plan, slots, tokens = make_plan(kind), numbers(4, 0, 19), numbers(0, 18, 3)
    changes = [make_changes(plan, 9), None, make_changes(plan, 1)]
    torch.set_num_threads(1)
    alone = make_pool()
    expected = rwkv4_step(plan, tokens, alone, slots, changes)
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        pool = make_pool()
        assert torch.equal(rwkv4_step(plan, tokens, pool, slots, changes), expected)
        assert all(torch.equal(a, b) for a, b in zip(pool, alone, strict=True))


def test_a_batch_of_none_changes_nothing():
    pool = make_pool()
    logits = rwkv4_step(make_plan(torch.float32), numbers(), pool, numbers())
    assert logits.shape == (0, V)
    assert all(torch.equal(a, b) for a, b in zip(pool, make_pool(), strict=True))


WRONG_STEPS: list[tuple[dict[str, Any], str]] = [
    ({"tokens": numbers(19)}, "`tokens` must lie in 0 to 18, got 19"),
    ({"tokens": numbers(-1)}, "`tokens` must lie in 0 to 18, got -1"),
    ({"tokens": torch.zeros(1, 1).long()}, r"`tokens` must have the shape \[B\], got \[1, 1\]"),
    ({"tokens": numbers(0).int()}, "`tokens` must have the dtype Long, got Int"),
    ({"slots": numbers(20)}, "`slots` must lie in 0 to 19, got 20"),
    ({"slots": numbers(-1)}, "`slots` must lie in 0 to 19, got -1"),
    ({"slots": numbers(0, 1)}, r"`slots` must have the shape \[1\], got \[2\]"),
    ({"num": torch.zeros(L, SLOTS, 5)}, r"`num` must have the shape \[2, 20, 48\], got"),
    ({"den": torch.zeros(L, 3, C)}, r"`den` must have the shape \[2, 20, 48\], got \[2, 3, 48\]"),
    ({"log_scale": torch.zeros(L, SLOTS, C).double()}, "`log_scale` must have the dtype Float"),
    ({"time_mix_x": torch.zeros(L, C, SLOTS).mT}, "`time_mix_x` must be contiguous, since it is"),
    ({"plan": torch.zeros(3, dtype=torch.uint8)}, "`plan` must be what rwkv4_plan gave"),
    ({"plan": torch.zeros(999)}, "`plan` must be what rwkv4_plan gave"),
    ({"changes": [torch.zeros(0).byte()] * 2}, "`changes` must be one for each of 1 tokens, got 2"),
    ({"changes": [torch.zeros(0)]}, "`changes` must be empty or what rwkv4_changes_plan gave"),
    ({"changes": [torch.zeros(9).byte()]}, "gave for a model of 2 layers and 48 channels"),
    ({"instruction_set": 9}, "`instruction_set` must be 0"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_STEPS)
def test_a_step_refuses_what_it_cannot_read_before_anything_changes(wrong, message):
    plan, pool = make_plan(torch.float32), make_pool()
    names = ("time_mix_x", "channel_mix_x", "num", "den", "log_scale")
    arguments = {"plan": plan.data, "tokens": numbers(1), "slots": numbers(2), "changes": []}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.receptance.rwkv4_step(
            **arguments | dict(zip(names, pool, strict=True)) | {"instruction_set": 0} | wrong
        )
    assert all(torch.equal(a, b) for a, b in zip(pool, make_pool(), strict=True))


def test_a_plan_refuses_weights_that_do_not_fit():
    weights = make_weights(torch.float32)

    def plan(weights: RWKV4Weights, vocab_size: int = V) -> RWKV4Plan:
        return rwkv4_plan(weights, vocab_size=vocab_size, eps=1e-5, format=None)

    with pytest.raises(RuntimeError, match=r"`weights\[0\]` must have the shape \[7, 48\]"):
        plan(weights, vocab_size=7)
    with pytest.raises(RuntimeError, match=r"must be 42 tensors, or two less without ln0, got 41"):
        torch.ops.receptance.rwkv4_plan(weights.tensors[:-1], L, C, V, 1e-5, 8, 32, False)
    layer = weights.layers[1]
    wrong = layer._replace(value=torch.zeros(C, 3))
    with pytest.raises(RuntimeError, match=r"`weights\[36\]` must have the shape \[48, 48\]"):
        plan(weights._replace(layers=[weights.layers[0], wrong]))
    strided = layer._replace(value=layer.value.T)
    with pytest.raises(RuntimeError, match=r"`weights\[36\]` must be contiguous"):
        plan(weights._replace(layers=[weights.layers[0], strided]))
    narrow = layer._replace(value=layer.value.bfloat16())
    with pytest.raises(RuntimeError, match="all matrices must be bfloat16, or none but the embed"):
        plan(weights._replace(layers=[weights.layers[0], narrow]))


def test_a_plan_refuses_changes_that_do_not_fit():
    plan = make_plan(torch.float32)
    fits = (torch.zeros(3, C), torch.zeros(C, 3))
    assert rwkv4_changes_plan(plan, {(1, "key"): fits}).data.numel() > 0
    for place, changes, message in (
        (
            (1, "key"),
            (fits[0], torch.zeros(C, 2)),
            r"`factors\[1\]` must have the shape \[2, 3, 32\]",
        ),
        (
            (1, "channel_key"),
            fits,
            r"`factors\[1\]` must have the shape \[6, 3, 32\], got \[2, 3, 32\]",
        ),
        (
            (0, "channel_value"),
            fits,
            r"`factors\[0\]` must have the shape \[3, 192\], got \[3, 48\]",
        ),
        ((2, "key"), fits, "`matrices` must lie in 0 to 13, got 14"),
    ):
        with pytest.raises(RuntimeError, match=message):
            rwkv4_changes_plan(plan, {place: changes})


def test_factors_of_any_dtype_and_order_are_planned_and_those_of_rank_0_change_nothing():
    plan, pool = make_plan(torch.float32), make_pool()
    a, b = torch.randn(5, C).bfloat16(), torch.randn(C, 5).bfloat16()
    found, expected, plain = (
        rwkv4_step(plan, numbers(1), make_pool(), numbers(2), [rwkv4_changes_plan(plan, changes)])
        for changes in (
            {(0, "output"): (a.T.contiguous().T, b.T.contiguous().T)},
            {(0, "output"): (a.float(), b.float())},
            {(0, "output"): (a[:0], b[:, :0])},
        )
    )
    assert torch.equal(found, expected)
    assert torch.equal(plain, rwkv4_step(plan, numbers(1), pool, numbers(2)))
    assert not torch.equal(found, plain)


def test_obstacles_say_what_stands_in_the_way():
    weights = make_weights(torch.float32)
    assert native_obstacle(weights) is None
    assert native_obstacle(weights._replace(embedding=weights.embedding.bfloat16())) is None

    def obstacle(**changed: Tensor) -> str:
        return str(native_obstacle(weights._replace(**changed)))  # pyright: ignore[reportArgumentType]

    assert "a tensor is on meta" in obstacle(head=weights.head.to("meta"))
    assert "one has the strides (1, 19)" in obstacle(head=weights.head.T.contiguous().T)
    assert "a tensor is torch.float64" in obstacle(head=weights.head.double())
    assert "a tensor is torch.bfloat16" in obstacle(ln_out_weight=weights.ln_out_weight.bfloat16())
    assert "all be bfloat16 or none" in obstacle(head=weights.head.bfloat16())
