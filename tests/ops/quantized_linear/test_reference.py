"""The definition of `quantized_linear` beside its equation, number by number."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from receptance.ops.quantized_linear import (
    QuantizedFormat,
    dequantize,
    pack_weight,
    quantized_input,
    quantized_linear,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounded(x: np.ndarray) -> np.ndarray:
    """Return x̂ of a row, from the equation, in numpy's float32."""
    result = np.zeros_like(x)
    for begin in range(0, len(x), 32):
        block = x[begin : begin + 32]
        s = np.abs(block).max() / np.float32(127)
        if s >= np.finfo(np.float32).tiny:
            result[begin : begin + 32] = s * np.round(block * (np.float32(1) / s))
    return result


@pytest.mark.parametrize("n_in", [1, 31, 32, 33, 100])
def test_the_input_is_rounded_in_blocks_of_32_columns(n_in):
    x = 3 * normal(5, n_in)
    x[1] = 0
    assert torch.equal(quantized_input(x), torch.from_numpy(np.stack([*map(rounded, x.numpy())])))


def test_halves_are_rounded_to_even_and_the_largest_stays():
    x = torch.zeros(1, 32)
    x[0, :5] = torch.tensor([-127.0, 0.5, 1.5, 2.5, -3.5])
    assert quantized_input(x)[0, :5].tolist() == [-127.0, 0.0, 2.0, 2.0, -4.0]


def test_what_is_too_small_for_an_inverse_becomes_0_and_what_is_not_finite_stays_so():
    tiny = torch.full((1, 32), 1e-37)
    assert not quantized_input(tiny).any()
    for bad in (float("nan"), float("inf")):
        x = torch.ones(1, 64)
        x[0, 3] = bad
        found = quantized_input(x)
        assert not torch.isfinite(found[0, 3])
        assert torch.equal(found[0, 32:], x[0, 32:])


def test_the_product_is_that_of_the_two_rounded_factors():
    format = QuantizedFormat(bits=4, group_size=32, has_offset=True)
    levels = torch.randint(16, (5, 40), generator=torch.Generator().manual_seed(0))
    scales, offsets = normal(5, 2), normal(5, 2, seed=1)
    weight = pack_weight(levels.to(torch.uint8), scales, offsets, format)
    x = normal(2, 3, 40)

    y = quantized_linear(x, weight, implementation="reference")

    expected = torch.zeros(2, 3, 5, dtype=torch.float64)
    for b, t, n in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(5)):
        for k, x_k in enumerate(rounded(x[b, t].numpy())):
            scale, offset = (each[n, k // 32].bfloat16().item() for each in (scales, offsets))
            expected[b, t, n] += (scale * (levels[n, k].item() - 8) + offset) * float(x_k)
    assert y.dtype == torch.float32
    assert_close(y, expected.float(), rtol=1e-6, atol=1e-6)


def test_it_is_near_the_product_in_full():
    format = QuantizedFormat(bits=8, group_size=32)
    levels = torch.randint(1, 256, (48, 96), generator=torch.Generator().manual_seed(0))
    weight = pack_weight(levels.to(torch.uint8), torch.full((48, 3), 1 / 64), None, format)
    x = normal(7, 96)

    exact = x @ dequantize(weight).T
    error = quantized_linear(x, weight) - exact

    # A step of the input is about 2.2 / 127 deviations of it, and its error 1/√12 of a step.
    assert float(error.square().mean().sqrt() / exact.square().mean().sqrt()) < 0.01
