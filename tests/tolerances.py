"""How far two right answers may lie apart, and why; no test relaxes these.

Algebra is proved in float64, where the rounding of a thousand operations stays far below `ALGEBRA`;
float32 is only ever compared with another float32 program.
"""

from typing import TypedDict

import torch


class Tolerance(TypedDict):
    """What `torch.testing.assert_close` takes: relative and absolute, either is enough."""

    rtol: float
    atol: float


EXACT = Tolerance(rtol=0.0, atol=0.0)
"""The same operations in the same order."""

ALGEBRA = Tolerance(rtol=1e-10, atol=1e-12)
"""One law computed in two orders in float64: a wrong term is never this small."""

GRADIENT = Tolerance(rtol=1e-8, atol=1e-10)
"""A float64 gradient beside a closed sum, which subtracts values that nearly agree."""

FLOAT32 = Tolerance(rtol=1e-5, atol=1e-5)
"""One op of float32 accumulated over some hundred tokens in two orders (seen: 2e-6)."""

FLOAT32_LOGITS = 1e-4
"""Logits of order 1 to 10 by two float32 programs that round at other places (seen: 1.5e-5)."""

FLOAT32_LOSS = 1e-5
"""The loss of two float32 programs trained side by side for 50 steps (seen: 1e-6)."""

BFLOAT16_LOGITS = 0.03
"""Logits with matrices in bfloat16, relative to their root mean square: a unit in the last place
is 2^-8 = 0.4 %, and the errors of a few layers add like a random walk (seen: 0.7 % at
4 layers, 1.0 % at 12)."""

GGML_LOGITS = {
    "FP32": 1e-6,
    "FP16": 0.002,
    "Q8_0": 0.03,
    "Q5_1": 0.2,
    "Q5_0": 0.2,
    "Q4_1": 0.4,
    "Q4_0": 0.4,
}
"""Logits with matrices as rwkv.cpp stores them, relative to their root mean square. A unit in the
last place of float16 is 2^-11 = 0.05 %; the largest of 32 normal numbers is about 2.1 of their root
mean square, of which a level is 1/127, 1/16 or 1/8, and its rounding errs by 0.29 of that: 0.5 %,
4 % and 8 %. They add up over the layers like a random walk (seen, at 12 layers: 0.07 %, 1.4 %,
11 %, 23 %)."""


def rounded_once(dtype: torch.dtype, device: str) -> float:
    """Return the relative error of what Triton's kernels compute in float32 and write in `dtype`.

    Half a unit in the last place, and for float32 what a few operations before lose (seen: 4e-7).
    Triton's interpreter, on the CPU, cuts off where it makes bfloat16, which a GPU rounds.
    """
    if dtype == torch.float32:
        return 1e-6
    return 1.01 * torch.finfo(dtype).eps / (1 if (dtype, device) == (torch.bfloat16, "cpu") else 2)
