"""What an RWKV-4 packs into; that it steps as the model goes forward is a law in tests/laws."""

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch

from receptance.models import (
    RWKV4,
    LowRank,
    LowRankChanges,
    PackedModel,
    RWKV4Config,
    changed_model,
)
from receptance.models.packed import PackedForward
from receptance.models.rwkv4_packed import PackedRWKV4, pack_rwkv4
from receptance.ops.native import library_obstacle
from receptance.quantization import quantize_model
from tests.random_models import random_changes, random_rwkv4, random_tokens, with_matrices

V = 41

needs_library = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


@needs_library
def test_matrices_of_float32_or_bfloat16_step_natively():
    for dtype in (torch.float32, torch.bfloat16):
        packed = with_matrices(random_rwkv4(vocab_size=V), dtype).pack()
        assert isinstance(packed, PackedModel)
        assert isinstance(packed, PackedRWKV4)


@needs_library
def test_an_embedding_may_have_another_dtype_than_the_matrices():
    model = random_rwkv4(vocab_size=V)
    expected = model.pack().step(torch.tensor([3]), model.zero_state(1), torch.tensor([0]))
    model.emb.to(torch.bfloat16)
    logits = model.pack().step(torch.tensor([3]), model.zero_state(1), torch.tensor([0]))
    assert isinstance(model.pack(), PackedRWKV4)
    # The model's own forward of the same weights.
    torch.testing.assert_close(logits, model(torch.tensor([[3]]))[0][:, 0], rtol=0, atol=1e-4)
    assert not torch.equal(logits, expected)


def test_what_the_native_step_does_not_serve_is_served_by_the_forward():
    mixed = random_rwkv4(vocab_size=V)
    mixed.head.to(torch.bfloat16)
    for model in (
        random_rwkv4(vocab_size=V, dtype=torch.float64),
        random_rwkv4(vocab_size=V).bfloat16(),  # vectors in bfloat16 too
        random_rwkv4(vocab_size=V).to("meta"),
        mixed,
    ):
        assert isinstance(pack_rwkv4(model), PackedForward)


@needs_library
def test_weights_that_change_in_place_are_seen_and_those_of_a_model_that_is_gone_live_on():
    model = random_rwkv4(vocab_size=V)
    packed, pool, slots = model.pack(), model.zero_state(1), torch.tensor([0])
    with torch.no_grad():
        model.head.weight.mul_(2)
    expected = model.pack().step(torch.tensor([3]), pool.clone(), slots)
    del model
    gc.collect()
    filler = [torch.full((V, 24), float("nan")) for _ in range(50)]  # takes what was freed
    assert torch.equal(packed.step(torch.tensor([3]), pool, slots), expected)
    del filler


@needs_library
@pytest.mark.parametrize(
    ("tokens", "slots", "words"),
    [
        ([1, V], [0, 1], "`tokens` must be from 0 to 40, got 41"),
        ([1, 2], [0, 3], "`slots` must be from 0 to 2, got 3"),
        ([1, 2], [2, 2], r"`slots` must differ from each other, got \[2, 2\]"),
    ],
)
def test_what_is_no_step_is_refused_before_anything_changes(tokens, slots, words):
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    pool = model(random_tokens(3, 2, V))[1]
    before = pool.clone()
    with pytest.raises(ValueError, match=words):
        model.pack().step(torch.tensor(tokens), pool, torch.tensor(slots))
    assert all(torch.equal(t, before.tensors[name]) for name, t in pool.tensors.items())


@needs_library
def test_a_step_has_no_graph_though_the_weights_want_gradients():
    model = random_rwkv4(vocab_size=V)
    pool = model.zero_state(2)
    logits = model.pack().step(torch.tensor([1]), pool, torch.tensor([1]))
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert not any(tensor.requires_grad for tensor in pool.tensors.values())


@needs_library
def test_packing_leaves_a_model_to_be_trained_unless_zeros_are_to_be_skipped():
    model = random_rwkv4(vocab_size=V)
    names = [name for name, _ in model.named_parameters()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.pack()
    assert [name for name, _ in model.named_parameters()] == names
    model.pack(skips_zeros=True)
    assert not any("ffn.value" in name for name, _ in model.named_parameters())
    found = model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


class Part(torch.Tensor):
    """What a sharded model has in the place of a matrix: a tensor that is not all there."""


@needs_library
def test_a_model_in_parts_is_served_by_its_forward():
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    model.head.weight = torch.nn.Parameter(model.head.weight.as_subclass(Part), requires_grad=False)
    assert isinstance(pack_rwkv4(model), PackedForward)


@needs_library
def test_a_copy_of_a_packed_model_has_weights_of_its_own():
    model = random_rwkv4(vocab_size=V)
    packed, token, slot = model.pack(), torch.tensor([3]), torch.tensor([0])
    expected = packed.step(token, model.zero_state(1), slot)
    copied = copy.deepcopy(packed)
    with torch.no_grad():
        model.head.weight.zero_()
    assert torch.equal(copied.step(token, model.zero_state(1), slot), expected)
    assert not packed.step(token, model.zero_state(1), slot).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_whose_embedding_is_normalised_already_is_the_same_model(dtype):
    """Also for a matrix type that the native step serves: it must not normalise again."""
    model = with_matrices(random_rwkv4(vocab_size=V), dtype)
    model.emb.float()
    folded = RWKV4(RWKV4Config(n_layer=3, n_embd=24, vocab_size=V, ln0=False))
    weights = {n: w for n, w in model.state_dict().items() if ".ln0." not in n}
    first: Any = model.blocks[0]
    weights["emb.weight"] = first.ln0(model.emb.weight.detach())
    folded.load_state_dict(weights, assign=True)
    tokens, slots = random_tokens(1, 5, V), torch.tensor([0])

    assert torch.equal(folded(tokens)[0], model(tokens)[0])
    packed, pool = folded.pack(), folded.zero_state(1)
    logits = [packed.step(token.view(1), pool, slots) for token in tokens[0]][-1]
    # The step sums in another order than the forward; its matrices see inputs in their dtype.
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(logits, folded(tokens)[0][:, -1], rtol=0, atol=tolerance)


def some_changes(model: RWKV4) -> list[LowRankChanges]:
    """Return changes of few and of many ranks, of all matrices, of some and of two."""
    one, many = random_changes(model, rank=1, seed=1), random_changes(model, rank=70, seed=2)
    odd = random_changes(model, rank=5, seed=3).layers
    some = {name: each for at, (name, each) in enumerate(odd.items()) if at % 3}
    two = {name: many.layers[name] for name in ("blocks.0.ffn.value", "blocks.2.att.output")}
    return [one, many, LowRankChanges(some), LowRankChanges(two)]


def in_kind(model: RWKV4, kind: str) -> RWKV4:
    if kind.startswith("int"):
        return quantize_model(model, kind).requires_grad_(False)
    return with_matrices(model, getattr(torch, kind)).requires_grad_(False)


@needs_library
@pytest.mark.usefixtures("_restored_threads")
@pytest.mark.parametrize("n_embd", [24, 64])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "int4"])
def test_sequences_with_changes_go_along_and_none_is_touched_by_its_company(
    kind, n_embd, monkeypatch
):
    plain = random_rwkv4(n_embd=n_embd, vocab_size=V)
    one, many, some, two = some_changes(plain)
    model = in_kind(plain, kind)
    packed = model.pack(skips_zeros=True)
    assert isinstance(packed, PackedRWKV4)
    before = model(random_tokens(7, 2, V))[1]
    slots, changes = [4, 0, 2, 1, 6, 3], [one, None, many, one, some, two]
    tokens = random_tokens(1, 6, V, seed=5)[0]
    forward = [
        (model if each is None else changed_model(model, each))(
            tokens[row : row + 1, None], before.select([slots[row]])
        )[0][0, -1]
        for row, each in enumerate(changes)
    ]
    monkeypatch.setattr(PackedForward, "step", None)  # all is done natively

    torch.set_num_threads(3)
    pool = before.clone()
    logits = packed.step(tokens, pool, torch.tensor(slots), changes)

    torch.set_num_threads(1)
    for row, (slot, each) in enumerate(zip(slots, changes, strict=True)):
        alone = before.clone()
        expected = packed.step(tokens[row : row + 1], alone, torch.tensor([slot]), [each])
        assert torch.equal(logits[row], expected[0])
        for name, tensor in pool.tensors.items():
            assert torch.equal(tensor[:, slot], alone.tensors[name][:, slot])
    # The step adds up in another order; elsewhere than in float32 that moves a rounding here and
    # there.
    atol = 1e-4 if kind == "float32" else 0.2
    torch.testing.assert_close(logits, torch.stack(forward), rtol=0, atol=atol)
    assert torch.equal(pool.num[:, 5], before.num[:, 5])


@needs_library
def test_changes_of_other_matrices_than_the_layers_go_through_the_forward():
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    of_layers, head = random_changes(model), LowRank(torch.ones(1, 24), torch.ones(V, 1))
    of_head = LowRankChanges({**of_layers.layers, "head": head})
    packed, slots, tokens = model.pack(), torch.tensor([2, 0, 1]), torch.tensor([5, 6, 5])
    pool = model.zero_state(3)

    logits = packed.step(tokens, pool, slots, [of_head, None, of_layers])

    expected, state = changed_model(model, of_head)(torch.tensor([[5]]))
    torch.testing.assert_close(logits[0], expected[0, -1], rtol=0, atol=1e-4)
    torch.testing.assert_close(pool.select([2]).num, state.num, rtol=0, atol=1e-4)
    alone = model.zero_state(3)
    rows = packed.step(tokens[1:], alone, slots[1:], [None, of_layers])
    assert torch.equal(logits[1:], rows)
    assert torch.equal(pool.num[:, :2], alone.num[:, :2])


@needs_library
def test_changes_that_are_gone_leave_nothing_behind():
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    packed, token, slot = model.pack(), torch.tensor([3]), torch.tensor([0])
    for seed in range(5):  # an object may have the address of one before it
        changes = random_changes(model, seed=seed)
        expected = changed_model(model, changes)(token[None])[0][0, -1]
        logits = packed.step(token, model.zero_state(1), slot, [changes])
        torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-4)
        watched = weakref.ref(changes)
        del changes
        assert watched() is None
        copied = copy.deepcopy(packed)
        assert copied.step(token, model.zero_state(1), slot, [None]).shape == (1, V)


@needs_library
def test_a_packed_model_can_be_sent_elsewhere_and_the_plans_of_its_changes_cannot():
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    packed, changes = model.pack(), random_changes(model)
    token, slot = torch.tensor([3]), torch.tensor([0])
    expected = packed.step(token, model.zero_state(1), slot, [changes])
    plan = packed._plan_of(changes)  # type: ignore[attr-defined]

    sent, sent_changes = pickle.loads(pickle.dumps((packed, changes)))
    assert torch.equal(sent.step(token, model.zero_state(1), slot, [sent_changes]), expected)
    with pytest.raises(TypeError, match="must stay in its process"):
        pickle.dumps(plan)
