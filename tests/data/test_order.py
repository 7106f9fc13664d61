import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data import order_key, permute

GOLDEN_KEY = [13456294284418343796, 15012867232092947508]
GOLDEN_TEN = [2, 1, 7, 9, 4, 5, 0, 8, 3, 6]
GOLDEN_MILLION = [80031, 841937, 977449, 699084, 542541]
GOLDEN_HUGE = [1037245984515, 1067963776381, 424456842538]

SEEDS = st.integers(-(2**70), 2**70)


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 10**12))
def test_every_index_is_reached_once(size: int, seed: int, epoch: int) -> None:
    permuted = permute(np.arange(size), size, order_key(seed, epoch))
    assert np.array_equal(np.sort(permuted), np.arange(size))


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 2**62), seed=SEEDS, data=st.data())
def test_huge_sizes_stay_in_range_and_apart(size: int, seed: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, size - 1), max_size=20, unique=True))
    permuted = permute(np.array(indices, np.int64), size, order_key(seed, 0)).tolist()
    assert all(0 <= index < size for index in permuted)
    assert len(set(permuted)) == len(indices)


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 500), seed=SEEDS, data=st.data())
def test_one_index_alone_goes_where_it_goes_among_all(
    size: int, seed: int, data: st.DataObject
) -> None:
    key = order_key(seed, 3)
    index = data.draw(st.integers(0, size - 1))
    alone = permute(np.array([index]), size, key)
    assert alone[0] == permute(np.arange(size), size, key)[index]


def test_the_order_never_changes_between_machines_and_versions() -> None:
    assert order_key(7, 1).tolist()[:2] == GOLDEN_KEY
    assert permute(np.arange(10), 10, order_key(0, 0)).tolist() == GOLDEN_TEN
    assert permute(np.arange(5), 10**6, order_key(1, 2)).tolist() == GOLDEN_MILLION
    assert permute(np.arange(3), 2**40 + 1, order_key(1, 2)).tolist() == GOLDEN_HUGE


def plain_permute(index: int, size: int, key: list[int]) -> int:
    """The same permutation in Python's own integers, one index at a time."""
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)

    def mix(value: int, round_key: int) -> int:
        z = (value * 0x9E3779B97F4A7C15 + round_key) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    left, right = divmod(index, b)
    for number, round_key in enumerate(key):
        if number % 2:
            right = (right + mix(left, round_key)) % b
        else:
            left = (left + mix(right, round_key)) % a
    result = left * b + right
    return result if result < size else plain_permute(result, size, key)


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 2**62), seed=SEEDS, data=st.data())
def test_the_arithmetic_is_that_of_plain_integers(
    size: int, seed: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    key = order_key(seed, 0)
    assert permute(np.array([index]), size, key)[0] == plain_permute(index, size, key.tolist())


def test_seeds_and_epochs_give_different_orders() -> None:
    orders = {
        tuple(permute(np.arange(50), 50, order_key(seed, epoch)).tolist())
        for seed in range(10)
        for epoch in range(10)
    }
    assert len(orders) == 100


@pytest.mark.parametrize("size", [3, 4])
def test_small_permutations_are_all_about_equally_likely(size: int) -> None:
    counts = Counter(
        tuple(permute(np.arange(size), size, order_key(seed, 0)).tolist()) for seed in range(1200)
    )
    n_permutations = {3: 6, 4: 24}[size]
    expected = 1200 / n_permutations
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert len(counts) == n_permutations
    # The 99.9 % quantiles of chi-squared with 5 and 23 degrees of freedom.
    assert chi_squared < {3: 20.5, 4: 49.7}[size]


def test_each_index_goes_everywhere_about_equally_often() -> None:
    n_places, n_keys = 20, 1000
    hits = np.zeros((n_places, n_places))
    for seed in range(n_keys):
        permuted = permute(np.arange(n_places), n_places, order_key(seed, 5))
        hits[np.arange(n_places), permuted] += 1
    expected = n_keys / n_places
    chi_squared = ((hits - expected) ** 2 / expected).sum()
    # The 99.9 % quantile of chi-squared with (20 - 1)^2 = 361 degrees of freedom.
    assert chi_squared < 449


def test_neighbours_do_not_stay_neighbours() -> None:
    size = 10_000
    permuted = permute(np.arange(size), size, order_key(0, 0))
    steps = np.abs(np.diff(permuted))
    # For a random order the distance of neighbours is size / 3 on average, 24 its standard error.
    assert abs(steps.mean() - size / 3) < 100
    assert (steps == 1).sum() < 12


def test_no_index_gives_no_index() -> None:
    assert permute(np.empty(0, np.int64), 5, order_key(0, 0)).tolist() == []


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"`index` must lie in 0 … 4, got {index} … {index}"):
        permute(np.array([index]), 5, order_key(0, 0))


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        permute(np.empty(0, np.int64), 0, order_key(0, 0))
