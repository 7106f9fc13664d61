"""Round numbers for an axis, and how they are written."""

import math

STEPS = (1, 2, 2.5, 5, 10)
LOG_FACTORS = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 7))
SUFFIXES = {1e12: "T", 1e9: "B", 1e6: "M", 1e3: "k"}


def ticks(low: float, high: float, n: int, *, is_log: bool = False) -> list[float]:
    """Return about `n` round numbers from `low` to `high`, evenly spaced where they are drawn.

    Args:
        low: The lower end, above 0 where `is_log`.
        high: The upper end, above `low`.
        n: How many are wanted.
        is_log: Whether the axis grows by factors. Over a factor of 4 or more the numbers are
            powers of ten then, and 3, or 2 and 5, or more, times them where there is room.
    """
    if is_log and high / low >= 4:
        return _log_ticks(low, high, n)
    power = 10.0 ** math.floor(math.log10((high - low) / n))
    step = min((each * power for each in STEPS), key=lambda each: abs((high - low) / each - n))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * index for index in range(first, last + 1)]


def tick_labels(values: list[float], *, is_log: bool = False) -> list[str]:
    """Return how the numbers of one axis are written, alike unless it grows by large factors.

    Large ones have k, M, B (10⁹) or T; small ones are written as 3e-4.
    """
    if is_log and values and values[-1] >= 4 * values[0]:
        return [label for value in values for label in tick_labels([value])]
    largest = max((abs(value) for value in values), default=0.0)
    if 0 < largest < 0.01:
        return [_scientific(value) for value in values]
    scale = next((scale for scale in SUFFIXES if largest >= max(scale, 1e4)), 1.0)
    scaled = [value / scale for value in values]
    n_decimals = next(
        (n for n in range(6) if all(math.isclose(round(x, n), x, abs_tol=1e-9) for x in scaled)), 6
    )
    suffix = SUFFIXES.get(scale, "")
    return [f"{value:.{n_decimals}f}{suffix}" if value else "0" for value in scaled]


def _log_ticks(low: float, high: float, n: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in LOG_FACTORS:
        all_values = (factor * 10.0**exponent for exponent in exponents for factor in factors)
        finer = [value for value in all_values if low <= value <= high]
        if len(found) < 2 or len(finer) <= n + 1:
            found = finer
    return found[:: -(-len(found) // (n + 1))]


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.4e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if value else "0"
