"""The block formats of ggml: 32 numbers of a row with one scale, and sometimes one minimum.

A number is a level, a whole number of few bits, of which a block says what it stands for:

    Q4_0, Q5_0, Q8_0    x = d·q         q from -2^(bits-1) to 2^(bits-1) - 1
    Q4_1, Q5_1          x = d·q + m     q from 0 to 2^bits - 1

A block is d and, where there is one, m, in float16; then, of five bits, the fifth bits of all
levels in 32 bits, the lowest being the first level's; then the rest of the levels. Byte i of 16
has that of level i in its lower half and that of level i + 16 in its upper half. Levels of eight
bits are a byte each, as two's complement; those of fewer are stored with 2^(bits-1) added where
there is no minimum.

Source: `ggml`, quantize_row_*_reference and dequantize_row_*, as rwkv.cpp's version 101 has them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

BLOCK_LENGTH = 32


@dataclass(frozen=True)
class BlockFormat:
    """What a block is made of."""

    n_bits: int
    """Bits of a level: 4, 5 or 8."""
    has_minimum: bool
    """Whether a block has its m; of eight bits none has."""

    @property
    def header_bytes(self) -> int:
        """Bytes of d and m."""
        return 4 if self.has_minimum else 2

    @property
    def block_bytes(self) -> int:
        """Bytes of a block of 32 numbers."""
        return self.header_bytes + BLOCK_LENGTH * self.n_bits // 8

    @property
    def zero_level(self) -> int:
        """The level that is stored for 0 where there is no minimum."""
        return 1 << (self.n_bits - 1)

    @property
    def max_level(self) -> int:
        """The greatest level that is stored."""
        return (1 << self.n_bits) - 1


BLOCK_FORMATS = {
    "Q4_0": BlockFormat(4, has_minimum=False),
    "Q4_1": BlockFormat(4, has_minimum=True),
    "Q5_0": BlockFormat(5, has_minimum=False),
    "Q5_1": BlockFormat(5, has_minimum=True),
    "Q8_0": BlockFormat(8, has_minimum=False),
}

_BIT_OF_BYTE = torch.arange(8, dtype=torch.uint8)


def dequantize_blocks(
    format: BlockFormat, blocks: UInt8[Tensor, "N bytes"]
) -> Float[Tensor, "N 32"]:
    """Return the numbers that blocks stand for, in float32, as ggml computes them bit for bit.

    A scale or minimum that is not finite gives numbers that are not.

    Args:
        format: What the blocks are made of.
        blocks: N blocks of `format.block_bytes`. Not modified.
    """
    header = blocks[:, : format.header_bytes].contiguous().view(torch.float16).float()
    d, levels = header[:, :1], blocks[:, format.header_bytes :]
    if format.n_bits == 8:
        return levels.contiguous().view(torch.int8).float().mul_(d)
    q = _unpacked(format, levels).float()
    if not format.has_minimum:
        return q.sub_(format.zero_level).mul_(d)
    # The product is exact, 5 bits by 11, so that only the sum rounds.
    return q.mul_(d).add_(header[:, 1:])


def quantize_blocks(
    format: BlockFormat, numbers: Float[Tensor, "N 32"]
) -> UInt8[Tensor, "N bytes"]:
    """Return the blocks that ggml's reference makes of numbers, bit for bit.

    The reference is C without fused products. It computes the levels with d in float32 and stores
    d in float16. Where 1/d overflows it is undefined; here such levels are those of 0, and d and
    so the numbers are 0 in float16.

    Args:
        format: What the blocks are made of.
        numbers: N blocks of numbers, float32. Not modified.

    Raises:
        ValueError: If a scale or a minimum is not finite in float16.
    """
    low, high = numbers.amin(dim=1, keepdim=True), numbers.amax(dim=1, keepdim=True)
    if format.has_minimum:
        d = (high - low) / format.max_level
        header = torch.cat([d, low], dim=1)
    elif format.n_bits == 8:
        header = d = torch.maximum(high, -low).abs() / (format.zero_level - 1)
    else:
        # The number farthest from 0 becomes the lowest level, which has no opposite.
        header = d = _farthest(numbers, low, high) / -format.zero_level
    header = header.half()
    if not bool(header.isfinite().all()):
        raise ValueError(
            "the scale and minimum of a block must be finite in float16, but they are not for "
            f"numbers from {low.min().item():g} to {high.max().item():g}"
        )
    inverse = d.reciprocal()
    inverse = inverse.where(inverse.isfinite(), 0.0)
    if format.n_bits == 8:
        levels = _rounded(numbers * inverse).view(torch.uint8)
    elif format.has_minimum:
        levels = _packed(format, ((numbers - low) * inverse).add_(0.5))
    else:
        levels = _packed(format, (numbers * inverse).add_(format.zero_level + 0.5))
    return torch.cat([header.view(torch.uint8), levels], dim=1)


def _farthest(
    numbers: Float[Tensor, "N 32"], low: Float[Tensor, "N 1"], high: Float[Tensor, "N 1"]
) -> Float[Tensor, "N 1"]:
    """Return the number of each block that is farthest from 0, the first of two as far."""
    farthest = torch.where(high > -low, high, low)
    (ties,) = (high == -low).squeeze(1).nonzero(as_tuple=True)
    tied = numbers[ties]
    farthest[ties] = tied.gather(1, tied.abs().argmax(dim=1, keepdim=True))
    # The reference begins with +0, and no -0 replaces it.
    return farthest.add_(0.0)


def _rounded(numbers: Float[Tensor, "N 32"]) -> Int8[Tensor, "N 32"]:
    """Return the nearest whole numbers, the one farther from 0 of two as near."""
    whole = numbers.to(torch.int8)
    return whole.add_(((numbers - whole) * 2.0).to(torch.int8))


def _packed(format: BlockFormat, levels: Float[Tensor, "N 32"]) -> UInt8[Tensor, "N packed"]:
    """Return the bytes of levels of four or five bits, which are cut to whole numbers."""
    q = levels.to(torch.uint8).clamp_(max=format.max_level)
    halves = (q[:, :16] & 15) | (q[:, 16:] << 4)
    if format.n_bits == 4:
        return halves
    fifth_bits = (q >> 4).view(-1, 4, 8) << _BIT_OF_BYTE
    return torch.cat([fifth_bits.sum(dim=2, dtype=torch.uint8), halves], dim=1)


def _unpacked(format: BlockFormat, packed: UInt8[Tensor, "N packed"]) -> UInt8[Tensor, "N 32"]:
    """Return the levels of four or five bits whose bytes these are."""
    halves = packed[:, -16:]
    q = torch.cat([halves & 15, halves >> 4], dim=1)
    if format.n_bits == 4:
        return q
    fifth_bits = (packed[:, :4, None] >> _BIT_OF_BYTE) & 1
    return q.add_(fifth_bits.view(-1, BLOCK_LENGTH), alpha=16)
