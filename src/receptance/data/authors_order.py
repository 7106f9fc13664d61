"""The order of RWKV-LM: one formula over a prime, for runs that must see what the authors' saw.

With the stream cut into contexts of N tokens from its beginning, sample i = 1, 2, … of a run is
context (⌊p·φ⌋ · i³) mod p, φ = (√5 - 1) / 2. Cubing is one to one modulo a prime p ≡ 2 (mod 3),
since 3 then has an inverse modulo p - 1, so that p samples are p contexts, each once; and then they
come again in the same order. p is the largest such prime below the ⌊n_tokens / N⌋ contexts.

Source: src/dataset.py and compute_magic_prime.py of BlinkDL/RWKV-LM, where the prime is an option
that the user finds.
"""

import math

from receptance.errors import DataError

# With these bases the test of Miller and Rabin is exact below 3.3e24 (Sorenson and Webster, 2015).
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
_EXACT_BELOW = 3_317_044_064_679_887_385_961_981

# In double precision, as the authors compute it.
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def is_prime(number: int) -> bool:
    """Return whether a number is prime: a proof, not a likelihood.

    Args:
        number: Below 3.3e24.

    Raises:
        ValueError: If it is larger.
    """
    if number >= _EXACT_BELOW:
        raise ValueError(f"`number` must be below {_EXACT_BELOW}, got {number}")
    if number < 2:
        return False
    for base in _BASES:
        if number % base == 0:
            return number == base
    odd, n_halvings = number - 1, 0
    while odd % 2 == 0:
        odd, n_halvings = odd // 2, n_halvings + 1
    return all(_passes(number, base, odd, n_halvings) for base in _BASES)


def _passes(number: int, base: int, odd: int, n_halvings: int) -> bool:
    """Return whether `number` may be prime as far as one base can tell; number - 1 = odd · 2^n."""
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(n_halvings - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def order_prime(n_tokens: int, sample_len: int) -> int:
    """Return the largest prime p ≡ 2 (mod 3) below ⌊n_tokens / sample_len⌋.

    Args:
        n_tokens: How many tokens there are.
        sample_len: How many tokens a sample has, N.

    Raises:
        DataError: If there is none, there being less than three samples.
    """
    # What is left over by being below also gives the last sample the token that follows it.
    candidate = n_tokens // sample_len - 1
    while candidate >= 2:
        if candidate % 3 == 2 and is_prime(candidate):
            return candidate
        candidate -= 1
    raise DataError(
        f"the order 'authors' must have at least {3 * sample_len} tokens for samples of "
        f"{sample_len}, but there are {n_tokens}; use a smaller ctx_len, prepare more text, or "
        "take the order 'permuted'"
    )


def authors_context(place: int, prime: int) -> int:
    """Return which context the sample at a place is.

    Args:
        place: Counted from 0, in an order without end; the authors count from 1.
        prime: Of `order_prime`.
    """
    factor = int(prime * _GOLDEN_RATIO)
    return factor * pow(place + 1, 3, prime) % prime
