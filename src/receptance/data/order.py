"""The order in which samples are seen: arithmetic, not a stored shuffle.

Place p of an epoch holds sample π(p), where π is a permutation of 0 … n-1 that a key picks. It is
computed for one place without knowing any other, so that a run resumes anywhere at no cost.
"""

import hashlib

import numpy as np
from jaxtyping import Int64, UInt64

N_ROUNDS = 8

# Constants of the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)


def order_key(seed: int, epoch: int) -> UInt64[np.ndarray, "8"]:
    """Return the key of one epoch's permutation: eight 64-bit numbers.

    They are the BLAKE2b digest of the text `SEED:EPOCH`, so they are the same on every machine.

    Args:
        seed: The seed of the run.
        epoch: How many times the samples have all been seen before.
    """
    digest = hashlib.blake2b(f"{seed}:{epoch}".encode(), person=b"receptance order").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def permute(
    index: Int64[np.ndarray, " n"], size: int, key: UInt64[np.ndarray, "8"]
) -> Int64[np.ndarray, " n"]:
    """Return where a keyed permutation of 0 … size-1 sends each index.

    A Feistel network over a grid of a × b ≥ size cells, a = ⌈√size⌉ and b = ⌈size/a⌉. With
    index = left·b + right, rounds add in turn

        left  ← (left  + hash(right, key[0])) mod a
        right ← (right + hash(left,  key[1])) mod b

    and each round can be undone, so the whole is one to one. The few cells beyond `size` are
    walked through: the network is applied again until it lands below `size`.

    Args:
        index: Numbers from 0 to size-1. Not modified.
        size: How many numbers are permuted, at least 1.
        key: The key, of `order_key`.

    Returns:
        As many numbers from 0 to size-1, all different where the indices are.

    Raises:
        ValueError: If `size` is not positive or an index is out of range.
    """
    if size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}")
    smallest, largest = (int(index.min()), int(index.max())) if index.size else (0, 0)
    if smallest < 0 or largest >= size:
        raise ValueError(f"`index` must lie in 0 … {size - 1}, got {smallest} … {largest}")
    result = _walk_network(index.astype(np.uint64), size, key)
    outside = result >= size
    while outside.any():
        result[outside] = _walk_network(result[outside], size, key)
        outside = result >= size
    return result.astype(np.int64)


def _walk_network(
    index: UInt64[np.ndarray, " n"], size: int, key: UInt64[np.ndarray, "8"]
) -> UInt64[np.ndarray, " n"]:
    """Apply every round once; the result may lie in the cells beyond `size`."""
    n_left = _ceil_sqrt(size)
    n_right = -(-size // n_left)
    a, b = np.uint64(n_left), np.uint64(n_right)
    left, right = index // b, index % b
    for round_index in range(0, N_ROUNDS, 2):
        left = (left + _hash(right, key[round_index : round_index + 1]) % a) % a
        right = (right + _hash(left, key[round_index + 1 : round_index + 2]) % b) % b
    return left * b + right


def _ceil_sqrt(number: int) -> int:
    """Return the smallest integer whose square is at least `number`."""
    root = int(number**0.5)
    # The float root may be off by a little for numbers beyond 2^53.
    while root * root < number:
        root += 1
    while (root - 1) ** 2 >= number:
        root -= 1
    return root


def _hash(
    values: UInt64[np.ndarray, " n"], key: UInt64[np.ndarray, "1"]
) -> UInt64[np.ndarray, " n"]:
    """Return 64 well-mixed bits for each value; arithmetic is modulo 2^64."""
    z = values * _GAMMA + key
    z = (z ^ (z >> np.uint64(30))) * _FIRST_FACTOR
    z = (z ^ (z >> np.uint64(27))) * _SECOND_FACTOR
    return z ^ (z >> np.uint64(31))
