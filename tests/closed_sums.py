"""WKV as the paper's equation 16 prints it: sums over all earlier tokens, in float64.

Written without a look at the recurrence, and in NumPy, so that the two share nothing. Every token's
weight is computed for every later token: O(T²), for small examples only.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Gradients(NamedTuple):
    """The gradients of sum(g * y), by the closed sums of the paper's authors' kernel."""

    log_w: Array
    u: Array
    k: Array
    v: Array


def wkv_sums(
    log_w: Array,
    u: Array,
    k: Array,
    v: Array,
    past: tuple[Array, Array] | None = None,
) -> tuple[Array, Array, Array]:
    """Return y [T, C] of one sequence, and the numerator and denominator [C] after it.

    Args:
        log_w: Log of the decay [C].
        u: Bonus [C].
        k: Keys [T, C].
        v: Values [T, C].
        past: The true numerator and denominator [C] before the first token; None for zeros.
    """
    T, C = k.shape
    a_0, b_0 = past if past is not None else (np.zeros(C), np.zeros(C))
    y = np.empty((T, C))
    for t in range(T):
        numerator = np.exp(t * log_w) * a_0 + np.exp(u + k[t]) * v[t]
        denominator = np.exp(t * log_w) * b_0 + np.exp(u + k[t])
        for i in range(t):
            weight = np.exp((t - 1 - i) * log_w + k[i])
            numerator = numerator + weight * v[i]
            denominator = denominator + weight
        y[t] = numerator / denominator
    ages = np.arange(T - 1, -1, -1.0)[:, None]
    weights = np.exp(ages * log_w + k)
    a = np.exp(T * log_w) * a_0 + (weights * v).sum(0)
    b = np.exp(T * log_w) * b_0 + weights.sum(0)
    return y, a, b


def wkv_gradients(log_w: Array, u: Array, k: Array, v: Array, g: Array) -> Gradients:
    """Return the gradients of sum(g * y) for one sequence that begins in the zero state."""
    T = len(k)
    t, i = np.arange(T)[:, None, None], np.arange(T)[None, :, None]
    age = t - 1 - i
    exponent = np.where(i == t, u + k, age * log_w + k)
    weight = np.where(i <= t, np.exp(np.where(i <= t, exponent, 0.0)), 0.0)
    share = weight / weight.sum(1, keepdims=True)  # of token i in y_t
    y = (share * v).sum(1)
    pull = g[:, None] * share * (v - y[:, None])  # of token i's log weight on sum(g * y)
    return Gradients(
        log_w=np.where(i < t, age * pull, 0.0).sum((0, 1)),
        u=np.einsum("ttc->c", pull),
        k=pull.sum(0),
        v=(g[:, None] * share).sum(0),
    )


def wkv_long(log_w: Array, u: Array, k: Array, v: Array) -> Array:
    """Return y for one long sequence of positive values, by sums of logarithms, O(T)."""
    steps = np.arange(len(k))[:, None]
    # Σ_{i<t} exp((t-1-i) log_w + k_i) = exp((t-1) log_w) Σ_{i<t} exp(k_i - i log_w)
    b = np.logaddexp.accumulate(k - steps * log_w) + steps * log_w
    a = np.logaddexp.accumulate(k + np.log(v) - steps * log_w) + steps * log_w
    numerator = np.logaddexp(a[:-1], u + k[1:] + np.log(v[1:]))
    denominator = np.logaddexp(b[:-1], u + k[1:])
    return np.concatenate([v[:1], np.exp(numerator - denominator)])
