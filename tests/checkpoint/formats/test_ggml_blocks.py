"""Blocks are ggml's, bit for bit: the package `gguf` of its authors is the oracle."""

import gguf
import numpy as np
import pytest
import torch
from gguf import quants

from receptance.checkpoint.formats.ggml_blocks import (
    BLOCK_FORMATS,
    dequantize_blocks,
    quantize_blocks,
)

NAMES = pytest.mark.parametrize("name", BLOCK_FORMATS)


def theirs(name: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[name]


def bits(numbers: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return the bytes of numbers, of which -0 and +0 are two."""
    return np.ascontiguousarray(numbers).view(np.uint8)


def normal(rows: int, scale: float | torch.Tensor = 1.0) -> torch.Tensor:
    return scale * torch.randn(rows, 32, generator=torch.Generator().manual_seed(0))


def scales(rows: int, least: int, greatest: int) -> torch.Tensor:
    """Return a power of two for each row."""
    generator = torch.Generator().manual_seed(1)
    return torch.exp2(torch.randint(least, greatest, (rows, 1), generator=generator).float())


def levels(n_levels: int) -> torch.Tensor:
    """Return blocks of few different numbers, of which many lie between two levels."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(-n_levels, n_levels + 1, (5000, 32), generator=generator) / 8


BLOCKS = {
    "of any size": normal(5000),
    "of all scales": normal(5000, scales(5000, -40, 14)),
    "near the largest": normal(1000).clamp(-1, 1) * 65504,
    "with scales that are subnormal in float16": normal(5000, scales(5000, -24, -12)),
    "with scales that vanish in float16": normal(5000, scales(5000, -120, -30)),
    "between two levels of four bits": levels(16),
    "between two levels of five bits": levels(32),
    "between two levels of eight bits": levels(254) / 2,
    "stored in bfloat16": normal(5000).bfloat16().float(),
    "stored in float16": normal(5000).half().float(),
    "all 0": torch.zeros(2, 32),
    "all alike": torch.tensor([[0.3], [-7.0], [1e-6], [-60000.0]]).expand(4, 32).contiguous(),
    "of one sign": normal(5000).abs(),
    "as far below 0 as above": torch.cat([normal(500)[:, :16], -normal(500)[:, :16]], dim=1),
    "with one outlier": torch.eye(32) * -1000,
}


@NAMES
@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_those_of_the_reference(name, kind):
    numbers = BLOCKS[kind]
    before = numbers.clone()

    blocks = quantize_blocks(BLOCK_FORMATS[name], numbers)

    assert np.array_equal(blocks.numpy(), quants.quantize(numbers.numpy(), theirs(name)))
    assert torch.equal(numbers, before)


@NAMES
def test_any_block_stands_for_the_numbers_of_the_reference(name):
    format = BLOCK_FORMATS[name]
    generator = torch.Generator().manual_seed(3)
    blocks = torch.randint(
        256, (20_000, format.block_bytes), generator=generator, dtype=torch.uint8
    )
    header = blocks[:, : format.header_bytes].contiguous().view(torch.float16)
    blocks = blocks[header.isfinite().all(dim=1)]

    numbers = dequantize_blocks(format, blocks)

    assert numbers.dtype == torch.float32
    assert np.array_equal(
        bits(numbers), bits(quants.dequantize(blocks.numpy(), theirs(name)).reshape(-1, 32))
    )


@pytest.mark.parametrize(
    ("name", "block", "first", "seventeenth"),
    [
        # A scale of 2 is 0x4000 in float16, a minimum of -1 is 0xbc00.
        ("Q4_0", "0040 f1" + 15 * "00", 2 * (1 - 8), 2 * (15 - 8)),
        ("Q4_1", "0040 00bc f1" + 15 * "00", 2 * 1 - 1, 2 * 15 - 1),
        ("Q5_0", "0040 01000000 f1" + 15 * "00", 2 * (17 - 16), 2 * (15 - 16)),
        ("Q5_0", "0040 00000100 f1" + 15 * "00", 2 * (1 - 16), 2 * (31 - 16)),
        ("Q5_1", "0040 00bc 00000100 f1" + 15 * "00", 2 * 1 - 1, 2 * 31 - 1),
        ("Q8_0", "0040 81" + 15 * "00" + "7f" + 15 * "00", 2 * -127, 2 * 127),
    ],
)
def test_a_block_by_hand(name, block, first, seventeenth):
    blocks = torch.frombuffer(bytearray.fromhex(block), dtype=torch.uint8)[None]

    (numbers,) = dequantize_blocks(BLOCK_FORMATS[name], blocks)

    assert numbers[[0, 16]].tolist() == [first, seventeenth]


@NAMES
def test_what_was_rounded_once_is_rounded_no_further(name):
    """The numbers of a block are levels, so that they become levels again."""
    format = BLOCK_FORMATS[name]
    once = dequantize_blocks(format, quantize_blocks(format, normal(1000)))

    twice = dequantize_blocks(format, quantize_blocks(format, once))

    # Not the same bits: a scale is divided out and rounded to float16 once more.
    torch.testing.assert_close(twice, once, rtol=2**-10, atol=2**-9)


@NAMES
def test_the_sign_of_nothing_does_not_matter(name):
    """Where all is 0, the reference in C begins with +0; the oracle keeps the sign of the first."""
    format = BLOCK_FORMATS[name]
    nothing = quantize_blocks(format, -torch.zeros(1, 32))

    if not format.has_minimum:
        assert torch.equal(nothing, quantize_blocks(format, torch.zeros(1, 32)))
    assert torch.equal(dequantize_blocks(format, nothing), torch.zeros(1, 32))


@NAMES
def test_numbers_too_small_for_any_scale_become_0(name):
    """There 1/d is infinite, and the reference in C is undefined."""
    format = BLOCK_FORMATS[name]
    numbers = normal(100, scales(100, -149, -128))

    once = quantize_blocks(format, numbers)

    assert torch.equal(once, quantize_blocks(format, numbers))
    assert torch.equal(dequantize_blocks(format, once), torch.zeros(100, 32))


@NAMES
@pytest.mark.parametrize("number", [1e7, -1e7, 3e38, float("inf"), float("nan")])
def test_what_no_scale_can_hold_is_refused(name, number):
    numbers = normal(3)
    numbers[1, 5] = number

    with pytest.raises(ValueError, match="must be finite in float16, but they are not"):
        quantize_blocks(BLOCK_FORMATS[name], numbers)


@NAMES
@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_a_scale_that_is_not_finite_does_not_pass_unseen(name, scale):
    format = BLOCK_FORMATS[name]
    blocks = quantize_blocks(format, normal(1))
    blocks[:, :2] = torch.tensor([scale]).half().view(torch.uint8)

    assert not bool(dequantize_blocks(format, blocks).isfinite().any())


@NAMES
def test_no_blocks_are_no_numbers(name):
    format = BLOCK_FORMATS[name]

    blocks = torch.empty(0, format.block_bytes, dtype=torch.uint8)

    assert dequantize_blocks(format, blocks).shape == (0, 32)
