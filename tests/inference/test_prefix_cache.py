"""What is remembered is found by exactly its tokens, in its scope, and in bounded memory."""

import pytest
import torch

from receptance.inference.prefix_cache import Found, PrefixCache
from receptance.models import RWKV4State

SCOPE, OTHER = ("model", "a"), ("model", "b")
STATE_BYTES = 5 * 1 * 1 * 4 * 4


def state(number: float = 0.0) -> RWKV4State:
    return RWKV4State(*(torch.full((1, 1, 4), number) for _ in range(5)))


def number_of(found: object) -> tuple[int, float] | None:
    if not isinstance(found, Found):
        return None
    return found.n_tokens, float(found.state.tensors["num"][0, 0, 0])


def test_the_longest_beginning_is_found_and_not_the_whole_prompt_by_its_state_alone():
    cache = PrefixCache(10_000)
    for n in (2, 5, 3):
        cache.put(SCOPE, range(n), state(float(n)))

    assert number_of(cache.find(SCOPE, range(9))) == (5, 5.0)
    assert number_of(cache.find(SCOPE, range(5))) == (3, 3.0)
    assert number_of(cache.find(SCOPE, [0, 1, 2, 3, 9, 9])) == (3, 3.0)
    assert cache.find(SCOPE, [0, 1]) is None
    assert cache.find(SCOPE, [1, 2, 3]) is None
    assert (cache.n_hits, cache.n_misses) == (3, 2)


def test_a_whole_prompt_is_found_where_the_features_at_its_end_were_kept():
    features = torch.arange(3.0)
    cache = PrefixCache(2 * STATE_BYTES + 3 * 4 + 2 * 4 + 4)
    cache.put(SCOPE, [1, 2], state(2.0), features)
    cache.put(SCOPE, [1], state(1.0))
    assert cache.n_bytes == cache.max_bytes

    found = cache.find(SCOPE, [1, 2])
    assert found is not None
    assert found.n_tokens == 2
    assert found.features is features
    assert number_of(cache.find(SCOPE, [1, 2, 3])) == (2, 2.0)
    assert cache.find(SCOPE, [1]) is None
    assert cache.find(OTHER, [1, 2]) is None


def test_scopes_know_nothing_of_each_other():
    cache = PrefixCache(10_000)
    cache.put(SCOPE, [1, 2], state())

    for scope in (OTHER, ("model",), ("model", "a", ""), ("modela",), ("model', 'a",)):
        assert cache.find(scope, [1, 2, 3]) is None
    assert cache.find(SCOPE, [1, 2, 3]) is not None


def test_a_collision_of_hashes_finds_nothing(monkeypatch):
    class Constant:
        def update(self, _: bytes) -> None: ...
        def digest(self) -> bytes:
            return b"0"

    monkeypatch.setattr("receptance.inference.prefix_cache._hash_of", lambda _: Constant())
    cache = PrefixCache(10_000)
    cache.put(SCOPE, [1, 2], state())

    assert cache.find(SCOPE, [7, 8, 9]) is None
    assert cache.find(OTHER, [1, 2, 3]) is None
    assert cache.find(SCOPE, [1, 2, 3]) is not None


def test_what_was_not_used_for_longest_is_forgotten_first():
    cache = PrefixCache(2 * (STATE_BYTES + 4))
    cache.put(SCOPE, [1], state(1.0))
    cache.put(SCOPE, [2], state(2.0))
    cache.find(SCOPE, [1, 0])
    cache.put(OTHER, [3], state(3.0))

    assert cache.find(SCOPE, [2, 0]) is None
    assert number_of(cache.find(SCOPE, [1, 0])) == (1, 1.0)
    assert number_of(cache.find(OTHER, [3, 0])) == (1, 3.0)
    assert (len(cache), cache.n_bytes) == (2, cache.max_bytes)


def test_memory_is_bounded_and_counted():
    cache = PrefixCache(1000)
    for n in range(1, 60):
        cache.put(SCOPE, range(n), state())
        cache.put(OTHER, [n], state())
        assert cache.n_bytes <= 1000
    assert len(cache) > 2

    cache.put(SCOPE, range(500), state())
    assert number_of(cache.find(SCOPE, range(501))) == (59, 0.0)

    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)
    assert cache.find(OTHER, [59, 1]) is None


def test_what_is_put_again_takes_its_memory_once():
    cache = PrefixCache(1000)
    cache.put(SCOPE, [1], state(1.0))
    cache.put(SCOPE, [1], state(2.0))

    assert number_of(cache.find(SCOPE, [1, 2])) == (1, 2.0)
    assert (len(cache), cache.n_bytes) == (1, STATE_BYTES + 4)


def test_no_memory_keeps_nothing_and_less_is_refused():
    cache = PrefixCache(0)
    cache.put(SCOPE, [1], state())

    assert len(cache) == 0
    with pytest.raises(ValueError, match="`max_bytes` must be at least 0, got -1"):
        PrefixCache(-1)
