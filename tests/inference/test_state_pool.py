"""A slot holds one state, shares nothing, and is worth nothing once it is free."""

import pytest
import torch

from receptance.inference.state_pool import StatePool
from receptance.models import State
from tests.random_models import random_rwkv4, random_tokens

MODEL = random_rwkv4(2, 8, 17).requires_grad_(False)
ZERO = MODEL.zero_state(1)


def state_of(seed: int) -> State:
    return MODEL(random_tokens(1, 3, 17, seed=seed))[1]


def same(first: State, second: State) -> bool:
    return all(torch.equal(t, second.tensors[name]) for name, t in first.tensors.items())


def test_slots_hold_what_was_written_to_them():
    pool = StatePool(ZERO, 3, poison=True)
    slots = [pool.acquire() for _ in range(3)]
    for slot in slots:
        pool.write(slot, state_of(slot))

    assert sorted(slots) == [0, 1, 2]
    assert all(same(pool.read(slot), state_of(slot)) for slot in slots)
    assert same(pool.state.select([1]), state_of(1))


def test_what_is_read_is_a_copy():
    pool = StatePool(ZERO, 2)
    slot = pool.acquire()
    pool.write(slot, state_of(1))

    read = pool.read(slot)
    pool.write(slot, state_of(2))

    assert same(read, state_of(1))
    assert read.batch_size == 1


def test_an_acquired_slot_holds_the_zero_state_whatever_was_in_it():
    pool = StatePool(ZERO, 1, poison=True)
    slot = pool.acquire()
    assert same(pool.read(slot), ZERO)
    pool.write(slot, state_of(1))
    pool.release(slot)

    assert pool.acquire() == slot
    assert same(pool.read(slot), ZERO)


@pytest.mark.parametrize("poison", [True, False])
def test_free_slots_are_poisoned_if_wanted(poison):
    pool = StatePool(ZERO, 2, poison=poison)
    slot = pool.acquire()
    pool.release(slot)

    for tensor in pool.state.tensors.values():
        assert bool(tensor.isnan().all()) == bool(tensor.isnan().any()) == poison


def test_a_copy_goes_on_by_itself():
    pool = StatePool(ZERO, 2, poison=True)
    source, target = pool.acquire(), pool.acquire()
    pool.write(source, state_of(1))

    pool.copy(source, target)
    pool.write(source, state_of(2))

    assert same(pool.read(target), state_of(1))


def test_the_memory_is_known_and_does_not_change():
    pool = StatePool(ZERO, 5)
    assert pool.memory_bytes == 5 * 5 * 2 * 8 * 4  # slots, vectors, layers, channels, float32
    storage = {name: tensor.data_ptr() for name, tensor in pool.state.tensors.items()}

    slot = pool.acquire()
    pool.write(slot, state_of(1))

    assert (pool.n_slots, pool.n_free) == (5, 4)
    assert storage == {name: tensor.data_ptr() for name, tensor in pool.state.tensors.items()}


def test_the_fingerprint_comes_out_with_a_state(tmp_path):
    zero = type(ZERO)(*ZERO.tensors.values(), fingerprint=MODEL.fingerprint)
    pool = StatePool(zero, 2)

    pool.read(pool.acquire()).save(tmp_path / "state.safetensors")

    assert (tmp_path / "state.safetensors").is_file()


def test_slots_that_are_not_taken_are_refused():
    pool = StatePool(ZERO, 2)
    slot = pool.acquire()
    pool.acquire()
    with pytest.raises(RuntimeError, match="a slot must be free to be acquired"):
        pool.acquire()
    pool.release(slot)

    words = f"`slot` must be one of 2 and taken, got {slot}"
    for call in (
        lambda: pool.release(slot),
        lambda: pool.read(slot),
        lambda: pool.write(slot, ZERO),
        lambda: pool.copy(1 - slot, slot),
        lambda: pool.copy(slot, 1 - slot),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(ValueError, match="got -1"):
        pool.read(-1)


def test_states_that_fit_into_no_slot_are_refused():
    pool = StatePool(ZERO, 2)
    slot = pool.acquire()

    with pytest.raises(ValueError, match=r"of this model, .*num \[2, 1, 8\].*, got .*\[2, 2, 8\]"):
        pool.write(slot, MODEL.zero_state(2))
    with pytest.raises(ValueError, match=r"got .*num \[3, 1, 8\]"):
        pool.check(random_rwkv4(3, 8, 17).zero_state(1))
    assert same(pool.read(slot), ZERO)


def test_a_pool_has_slots_for_one_sequence_each():
    with pytest.raises(ValueError, match="`n_slots` must be at least 1, got 0"):
        StatePool(ZERO, 0)
    with pytest.raises(ValueError, match="`zero_state` must be of one sequence, got one of 2"):
        StatePool(MODEL.zero_state(2), 1)
