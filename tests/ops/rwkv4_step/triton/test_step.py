"""The step in Triton's kernels: against the native one, alone and in company, amid poison.

That it is the model's forward, tests/models/test_rwkv4_packed_triton.py shows.
"""

import copy
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.native import library_obstacle
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.rwkv4_step import RWKV4TritonStep, rwkv4_plan, rwkv4_step
from receptance.ops.rwkv4_step.triton.replay import Replays
from tests.step_weights import (
    INT4,
    INT8,
    KINDS,
    SLOTS,
    C,
    Kind,
    L,
    V,
    make_pool,
    make_weights,
    numbers,
)


def make_step(kind: Kind, device: str = "cpu", n_layer: int = L) -> RWKV4TritonStep:
    weights = make_weights(kind, n_layer)
    layers = [type(each)(*(tensor.to(device) for tensor in each)) for each in weights.layers]
    outside = [each.to(device) for each in weights[:-1] if isinstance(each, Tensor)]
    format = kind if isinstance(kind, QuantizedFormat) else None
    moved = type(weights)(*outside, layers=layers)
    return RWKV4TritonStep(moved, vocab_size=V, eps=1e-5, format=format)


@pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_is_the_native_step_but_for_the_order_of_sums(kind, triton_device):
    format = kind if isinstance(kind, QuantizedFormat) else None
    plan = rwkv4_plan(make_weights(kind), vocab_size=V, eps=1e-5, format=format)
    tokens, slots = numbers(0, 18, 3), numbers(4, 0, 19)
    native, found = make_pool(), [each.to(triton_device) for each in make_pool()]
    expected = rwkv4_step(plan, tokens, native, slots)
    logits = make_step(kind, triton_device)(tokens, found, slots)
    # Float32 rounds a few hundred times; elsewhere a rounding may tip a number over to the next
    # unit of bfloat16 or level of int8, of which the sums take a part.
    tolerance = 1e-5 if kind == torch.float32 else 0.03
    assert_close(logits.cpu(), expected, rtol=tolerance, atol=tolerance)
    assert_close([each.cpu() for each in found], native, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("_guarded_memory")
@pytest.mark.parametrize("kind", [*KINDS, torch.float16], ids=str)
def test_a_sequence_has_the_same_bits_alone_and_amid_poison(kind, triton_device):
    step = make_step(kind, triton_device, n_layer=1)
    tokens, slots = numbers(7, 2, 11), numbers(5, 0, 3)
    others = [slot for slot in range(SLOTS) if slot not in (5, 0, 3)]
    together, alone = ([each[:1].to(triton_device) for each in make_pool()] for _ in range(2))
    for tensor in together:
        tensor[:, others] = float("nan")
    logits = step(tokens, together, slots)
    row = step(tokens[1:2], alone, slots[1:2])
    assert torch.equal(logits[1:2], row)
    assert logits.isfinite().all()
    for tensor, expected, whole in zip(together, alone, make_pool(), strict=True):
        before = whole[:1]
        assert torch.equal(tensor[:, 0], expected[:, 0])
        assert torch.equal(expected[:, 1:].cpu(), before[:, 1:])
        assert tensor[:, others].isnan().all()
        assert not torch.equal(tensor[:, 5].cpu(), before[:, 5])


@pytest.mark.parametrize(
    ("kind", "batch"), [(torch.bfloat16, 17), (INT8, 33), (torch.float32, 17)], ids=str
)
def test_a_sequence_has_the_same_bits_among_few_and_among_many(kind, batch, triton_device):
    """As `tile_of` says; on a GPU it is this test that shows it."""
    step = make_step(kind, triton_device, n_layer=1)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(V, (batch,), generator=generator)
    slots = torch.randperm(40, generator=generator)[:batch]
    together, alone = ([e[:1].to(triton_device) for e in make_pool(40)] for _ in range(2))
    logits = step(tokens, together, slots)
    last = slice(batch - 1, batch)  # in a tile, or at a place in one, that no small batch has
    assert torch.equal(logits[last], step(tokens[last], alone, slots[last]))
    for tensor, expected in zip(together, alone, strict=True):
        assert torch.equal(tensor[:, slots[last]], expected[:, slots[last]])


@pytest.mark.parametrize("kind", [torch.bfloat16, INT4], ids=str)
def test_nan_in_one_sequence_stays_there(kind, triton_device):
    step = make_step(kind, triton_device, n_layer=1)
    clean, poisoned = ([e[:1].to(triton_device) for e in make_pool()] for _ in range(2))
    poisoned[0][0, 5] = float("nan")
    tokens, slots = numbers(1, 2, 3), numbers(3, 5, 1)
    expected = step(tokens, clean, slots)
    logits = step(tokens, poisoned, slots)
    assert logits[1].isnan().all()
    assert torch.equal(logits[[0, 2]], expected[[0, 2]])


def test_what_is_not_there_makes_its_own_row_nan_and_touches_nothing(triton_device):
    step = make_step(torch.float32, triton_device, n_layer=1)
    clean, found = ([e[:1].to(triton_device) for e in make_pool()] for _ in range(2))
    expected = step(numbers(1), clean, numbers(2))
    tokens, slots = numbers(V, 1, -1, 3, 4), numbers(0, 2, 1, SLOTS, -1)
    logits = step(tokens, found, slots)
    assert torch.equal(logits[1], expected[0])
    assert logits[[0, 2, 3, 4]].isnan().all()
    assert all(torch.equal(a, b) for a, b in zip(clean, found, strict=True))


@pytest.mark.usefixtures("interpreted")
def test_a_recording_serves_its_own_pool_and_batch_with_whatever_tokens():
    """The stand-in for a graph runs again what was launched, as it was launched."""
    plain, recorded = (make_step(torch.float32, n_layer=1) for _ in range(2))
    recorded._replays = Replays(lambda launch: launch)
    pool, other, third = ([each[:1].clone() for each in make_pool()] for _ in range(3))
    fed = (numbers(1, 2), numbers(3, 4)), (numbers(5, 6), numbers(4, 7))
    assert torch.equal(recorded(fed[0][0], pool, fed[0][1]), plain(fed[0][0], other, fed[0][1]))
    recorded(fed[1][0], third, fed[1][1])
    assert torch.equal(recorded(fed[1][0], pool, fed[1][1]), plain(fed[1][0], other, fed[1][1]))
    assert all(torch.equal(a, b) for a, b in zip(pool, other, strict=True))


@pytest.mark.usefixtures("interpreted")
def test_threads_that_share_a_step_take_turns_at_its_buffers():
    """Two engines of one model do. What is launched here says which token it was given."""
    step, pool = make_step(torch.float32, n_layer=1), [each[:1] for each in make_pool()]

    class Telling(Replays):
        def run(self, key: object, launch: object) -> None:
            del key, launch
            work = step._workspaces[1]
            time.sleep(0.001)  # another thread goes on meanwhile, if it may
            work.logits[0] = work.tokens[0]

    step._replays = Telling(None)

    def feed(token: int) -> float:
        return step(numbers(token), pool, numbers(0))[0, 0].item()

    tokens = [*range(V)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(feed, tokens)) == tokens


def test_a_batch_of_none_changes_nothing(triton_device):
    none = torch.zeros(0, dtype=torch.int64)
    pool = [each.to(triton_device) for each in make_pool()]
    assert make_step(torch.float32, triton_device)(none, pool, none).shape == (0, V)


def test_logits_are_the_callers_and_a_step_made_in_inference_mode_serves_outside_of_it(
    triton_device,
):
    pool = [each[:1].to(triton_device) for each in make_pool()]
    with torch.inference_mode():
        step = make_step(torch.float32, triton_device, n_layer=1)
        first = step(numbers(1), pool, numbers(2))
        kept = first.clone()
    second = step(numbers(1), pool, numbers(2))
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


@pytest.mark.usefixtures("interpreted")
def test_a_copy_has_weights_and_buffers_of_its_own():
    step = make_step(torch.float32, n_layer=1)
    pool = [each[:1] for each in make_pool()]
    expected = step(numbers(1), [each.clone() for each in pool], numbers(2))
    copied = copy.deepcopy(step)
    step._plan.weights.head.zero_()
    assert torch.equal(copied(numbers(1), pool, numbers(2)), expected)


@pytest.mark.unhooked
@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"slots": numbers(1, 2)}, r"`tokens` and `slots` must have the same shape \[B\], got"),
        ({"pool": [*make_pool()[:4], torch.zeros(L, 3, C)]}, r"`pool` must be of the shape \[2,"),
        ({"pool": [e.double() for e in make_pool()]}, "`pool` must be float32 on cpu, and a"),
        ({"pool": [e.mT.contiguous().mT for e in make_pool()]}, "`pool` must be contiguous, since"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(wrong, words):
    step = make_step(torch.float32)
    arguments = {"tokens": numbers(1), "pool": make_pool(), "slots": numbers(1)} | wrong
    with pytest.raises(ValueError, match=words):
        step(**arguments)
