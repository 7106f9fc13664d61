import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data.authors_order import authors_context, is_prime, order_prime
from receptance.errors import DataError


def plain_is_prime(number: int) -> bool:
    return number > 1 and all(number % each for each in range(2, math.isqrt(number) + 1))


def test_primes_are_those_that_nothing_divides() -> None:
    assert [n for n in range(-3, 20_000) if is_prime(n)] == [
        n for n in range(-3, 20_000) if plain_is_prime(n)
    ]


@settings(deadline=None, max_examples=25)
@given(number=st.integers(2**33, 2**34))
def test_larger_numbers_are_judged_as_by_division(number: int) -> None:
    assert is_prime(number) == plain_is_prime(number)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2**61 - 1, True),
        (2**31 - 1, True),
        ((2**31 - 1) ** 2, False),
        # Each passes the tests of all primes up to some base: Jaeschke's, and Carmichael numbers.
        (3215031751, False),
        (341550071728321, False),
        (3825123056546413051, False),
        (318665857834031151167461, False),
        (561, False),
        (1024651 * 19 * 199, False),
    ],
)
def test_numbers_that_fool_weaker_tests_do_not_fool_this_one(number: int, expected: bool) -> None:
    assert is_prime(number) is expected


def test_numbers_beyond_the_proof_are_refused() -> None:
    with pytest.raises(ValueError, match="`number` must be below 3317044064679887385961981"):
        is_prime(2**90)


@pytest.mark.parametrize(
    ("n_tokens", "ctx_len", "prime"),
    [(1498226207, 512, 2926181), (1498226207, 4096, 365759), (332115325534, 4096, 81082817)],
)
def test_the_primes_are_those_that_the_authors_publish(
    n_tokens: int, ctx_len: int, prime: int
) -> None:
    """As `--magic_prime` in the scripts of RWKV-LM for minipile and the Pile."""
    assert order_prime(n_tokens, ctx_len) == prime


@settings(deadline=None, max_examples=50)
@given(sample_len=st.integers(1, 50), n_samples=st.integers(3, 3000), rest=st.integers(0, 49))
def test_the_prime_is_the_largest_that_fits(sample_len: int, n_samples: int, rest: int) -> None:
    n_tokens = sample_len * n_samples + rest % sample_len
    fitting = [p for p in range(2, n_samples) if plain_is_prime(p) and p % 3 == 2]
    assert order_prime(n_tokens, sample_len) == fitting[-1]


@pytest.mark.parametrize("prime", [p for p in range(1200) if plain_is_prime(p) and p % 3 == 2])
def test_each_context_comes_once_and_then_they_come_again(prime: int) -> None:
    contexts = [authors_context(place, prime) for place in range(prime)]
    assert sorted(contexts) == list(range(prime))
    assert [authors_context(place, prime) for place in range(prime, 2 * prime)] == contexts


def test_the_order_is_the_formula() -> None:
    """Of the first samples of minipile, the numbers of the formula in exact integers."""
    p = 365759
    # ⌊p·φ⌋ by an integer square root, 2p·φ = √5·p - p.
    factor = (math.isqrt(5 * p * p) - p) // 2
    expected = [factor * i**3 % p for i in (1, 2, 3, 1_000_003)]
    assert [authors_context(i - 1, p) for i in (1, 2, 3, 1_000_003)] == expected


def test_too_few_tokens_are_refused_with_how_many_there_must_be() -> None:
    assert order_prime(48, 16) == 2
    with pytest.raises(DataError, match="at least 48 tokens for samples of 16, but there are 47"):
        order_prime(47, 16)
