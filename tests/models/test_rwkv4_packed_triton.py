"""Decoding in Triton's kernels is the model's forward, token by token, in all formats."""

import copy

import pytest
import torch
from torch.testing import assert_close

from receptance.models import RWKV4, LowRank, LowRankChanges, PackedModel
from receptance.models import rwkv4_packed as chooser
from receptance.models.packed import PackedForward
from receptance.models.rwkv4_packed_triton import PackedTritonRWKV4
from receptance.quantization import quantize_model
from tests.random_models import random_changes, random_rwkv4, random_tokens, with_matrices
from tests.tolerances import BFLOAT16_LOGITS, FLOAT32_LOGITS

V = 19


def in_kind(kind: str, device: str) -> RWKV4:
    model = random_rwkv4(2, 40, V)
    if kind.startswith("int"):
        model = quantize_model(model, kind)
    else:
        model = with_matrices(model, getattr(torch, kind))
    return model.requires_grad_(False).to(device)


@pytest.fixture(autouse=True)
def _without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU the native step is chosen first; the interpreter serves what is left to Triton."""
    monkeypatch.setattr(chooser, "native_obstacle", lambda _: "it is not asked")


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "int8", "int4"])
def test_stepping_is_reading(kind, triton_device):
    model = in_kind(kind, triton_device)
    packed = model.pack(skips_zeros=True)
    assert isinstance(packed, PackedTritonRWKV4)
    assert isinstance(packed, PackedModel)
    tokens, pool, slots = random_tokens(3, 3, V), model.zero_state(6), torch.tensor([4, 0, 2])
    steps = [packed.step(column, pool, slots) for column in tokens.unbind(1)]
    logits = torch.stack(steps, dim=1)

    expected, state = model(tokens.to(triton_device))
    assert logits.dtype == torch.float32
    distance = (logits - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    if kind == "float32":
        assert_close(logits, expected, rtol=0, atol=FLOAT32_LOGITS)
    # float16 rounds eight times finer than bfloat16. A sum that rounds otherwise may tip a level
    # of int8 over, which is 1/127 of its block's largest number.
    assert distance <= (BFLOAT16_LOGITS / 8 if kind == "float16" else BFLOAT16_LOGITS)
    found = pool.select([4, 0, 2])
    near = {"rtol": 0, "atol": FLOAT32_LOGITS if kind == "float32" else 0.1}
    assert_close(found.num / found.den, state.num / state.den, **near)
    for name in ("time_mix_x", "channel_mix_x", "log_scale"):
        assert_close(found.tensors[name], state.tensors[name], **near)
    untouched = model.zero_state(6)
    for name, tensor in pool.tensors.items():
        assert torch.equal(tensor[:, [1, 3, 5]], untouched.tensors[name][:, [1, 3, 5]])


@pytest.mark.usefixtures("interpreted")
def test_sequences_with_changes_go_through_the_forward_and_the_others_do_not():
    model = in_kind("float32", "cpu")
    changes, forward = random_changes(model), PackedForward(model, V)
    packed, slots, tokens = model.pack(), torch.tensor([2, 0, 3]), torch.tensor([5, 6, 7])
    pool, alone = model.zero_state(4), model.zero_state(4)
    logits = packed.step(tokens, pool, slots, [None, changes, None])
    for rows, theirs in (
        ([0, 2], packed.step(tokens[[0, 2]], alone, slots[[0, 2]])),
        ([1], forward.step(tokens[1:2], alone, slots[1:2], [changes])),
    ):
        assert torch.equal(logits[rows], theirs)
    assert all(torch.equal(pool.tensors[name], each) for name, each in alone.tensors.items())
    logits = packed.step(tokens, pool, slots, [changes] * 3)
    assert torch.equal(logits, forward.step(tokens, alone, slots, [changes] * 3))


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_gpu():
    model = in_kind("bfloat16", "cuda")
    layers = random_changes(in_kind("bfloat16", "cpu")).layers
    changes = LowRankChanges(
        {name: LowRank(*(each.cuda() for each in pair)) for name, pair in layers.items()}
    )
    packed, pool = model.pack(), model.zero_state(4)
    slots, tokens = torch.tensor([2, 0, 3]), torch.tensor([5, 6, 7])
    for mode in ("default", "error"):  # what is met first is compiled and recorded, and waits
        torch.cuda.set_sync_debug_mode(mode)
        try:
            packed.step(tokens, pool, slots)
            packed.step(tokens, pool, slots, [None, changes, None])
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("interpreted")
def test_what_is_no_step_is_refused():
    model = in_kind("float32", "cpu")
    with pytest.raises(ValueError, match="`tokens` must be from 0 to 18, got 19"):
        model.pack().step(torch.tensor([V]), model.zero_state(1), torch.tensor([0]))


@pytest.mark.usefixtures("interpreted")
def test_a_copy_of_a_packed_model_has_weights_of_its_own():
    model = in_kind("float32", "cpu")
    packed, token, slot = model.pack(), torch.tensor([3]), torch.tensor([0])
    copied = copy.deepcopy(packed)
    expected = packed.step(token, model.zero_state(1), slot)
    model.head.weight.zero_()
    assert torch.equal(copied.step(token, model.zero_state(1), slot), expected)


def test_what_no_kernel_serves_is_served_by_the_forward():
    assert isinstance(in_kind("float32", "cpu").pack(), PackedForward)  # no interpreter, no GPU
