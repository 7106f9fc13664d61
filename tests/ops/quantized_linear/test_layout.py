"""The bytes of a packed matrix, worked out by hand, and the way back from them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from receptance.ops.quantized_linear import (
    QuantizedEmbeddingWeight,
    QuantizedFormat,
    QuantizedWeight,
    dequantize,
    dequantize_embedding,
    pack_embedding,
    pack_weight,
)

FORMATS = [
    QuantizedFormat(bits, group_size, has_offset)
    for bits in (4, 8)
    for group_size in (32, 64, 128)
    for has_offset in (False, True)
]


def parts(N: int, K: int, format: QuantizedFormat, seed: int = 0):
    """Return random levels, scales and offsets of a matrix [N, K]."""
    generator = torch.Generator().manual_seed(seed)
    least = 1 if format.bits == 8 else 0
    levels = torch.randint(least, 1 << format.bits, (N, K), generator=generator).to(torch.uint8)
    scales = torch.randn(N, format.n_groups(K), generator=generator).bfloat16()
    offsets = torch.randn(scales.shape, generator=generator).bfloat16()
    return levels, scales, offsets if format.has_offset else None


def matrix(levels, scales, offsets, format: QuantizedFormat):
    """Return scale · (q - z) + offset in the plainest way."""
    K = levels.shape[1]
    scale = scales.float().repeat_interleave(format.group_size, dim=1)[:, :K]
    values = scale * (levels.float() - format.zero_level)
    if offsets is not None:
        values = values + offsets.float().repeat_interleave(format.group_size, dim=1)[:, :K]
    return values


@given(
    format=st.sampled_from(FORMATS),
    N=st.sampled_from([1, 31, 32, 33, 70]),
    K=st.sampled_from([1, 31, 32, 100, 128, 200]),
)
def test_what_was_packed_comes_back(format, N, K):
    levels, scales, offsets = parts(N, K, format)
    expected = matrix(levels, scales, offsets, format)

    weight = pack_weight(levels, scales, offsets, format)
    embedding = pack_embedding(levels, scales, offsets, format)

    assert weight.data.is_contiguous()
    assert (weight.n_out, weight.n_in, embedding.n_embd) == (N, K, K)
    assert torch.equal(dequantize(weight), expected)
    assert torch.equal(dequantize_embedding(embedding), expected)


def test_a_block_of_8_bits_is_scales_then_quads_of_columns_row_by_row():
    format = QuantizedFormat(bits=8, group_size=32)
    levels, scales, _ = parts(64, 64, format)
    block = pack_weight(levels, scales, None, format).data[1, 1]  # rows 32…, columns 32…

    assert len(block) == format.block_bytes == 64 + 32 * 32
    assert torch.equal(block[:64].view(torch.bfloat16), scales[32:, 1])
    for quad, row, k in [(0, 0, 0), (0, 0, 3), (0, 1, 0), (1, 0, 0), (5, 17, 2), (7, 31, 3)]:
        byte = 64 + quad * 128 + row * 4 + k
        assert block[byte] == levels[32 + row, 32 + 4 * quad + k]


def test_a_block_of_4_bits_has_two_quads_in_the_halves_of_its_bytes():
    format = QuantizedFormat(bits=4, group_size=64, has_offset=True)
    levels, scales, offsets = parts(64, 128, format)
    assert offsets is not None
    block = pack_weight(levels, scales, offsets, format).data[1, 1]

    assert len(block) == format.block_bytes == 64 + 64 + 32 * 32
    assert torch.equal(block[:64].view(torch.bfloat16), scales[32:, 1])
    assert torch.equal(block[64:128].view(torch.bfloat16), offsets[32:, 1])
    for pair, row, i in [(0, 0, 0), (0, 0, 3), (0, 1, 0), (1, 0, 0), (4, 17, 2), (7, 31, 3)]:
        byte = int(block[128 + pair * 128 + row * 4 + i])
        assert byte & 15 == levels[32 + row, 64 + 8 * pair + i]
        assert byte >> 4 == levels[32 + row, 64 + 8 * pair + 4 + i]


def test_a_row_of_an_embedding_is_scales_offsets_levels():
    format = QuantizedFormat(bits=4, group_size=32, has_offset=True)
    levels, scales, offsets = parts(3, 64, format)
    assert offsets is not None
    row = pack_embedding(levels, scales, offsets, format).data[2]

    assert len(row) == 2 * (2 + 2 + 16)
    assert torch.equal(row[:4].view(torch.bfloat16), scales[2])
    assert torch.equal(row[4:8].view(torch.bfloat16), offsets[2])
    assert [int(byte) for byte in row[8:]] == [
        int(levels[2, 2 * i]) + 16 * int(levels[2, 2 * i + 1]) for i in range(32)
    ]


@pytest.mark.parametrize("bits", [4, 8])
def test_padding_is_zero(bits):
    format = QuantizedFormat(bits, group_size=64, has_offset=True)
    levels, scales, offsets = parts(3, 70, format)

    weight = pack_weight(levels, scales, offsets, format)
    whole = dequantize(QuantizedWeight(weight.data, format, n_out=32, n_in=128))

    assert torch.equal(whole[:3, :70], matrix(levels, scales, offsets, format))
    assert not whole[3:].any()
    # Columns of padding in a group that has columns: their level is z, and they have its offset.
    assert offsets is not None
    assert torch.equal(whole[:3, 70:], offsets[:, 1:].float().expand(-1, 58))


def test_the_bytes_of_a_weight_are_those_of_the_targets():
    assert QuantizedFormat(8, 32).bytes_per_weight == 1.0625
    assert QuantizedFormat(4, 32).bytes_per_weight == 0.5625
    assert QuantizedFormat(4, 64, has_offset=True).bytes_per_weight == 0.5625


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((5, 32), "`bits` must be one of [4, 8], got 5"),
        ((4, 48), "`group_size` must be one of [32, 64, 128], got 48"),
        ((4.0, 32), "`bits` must be one of [4, 8], got 4.0"),
        ((4, 32, 1), "`has_offset` must be true or false, got 1"),
    ],
)
@pytest.mark.unhooked
def test_a_format_that_there_is_not_is_refused(given, message):
    with pytest.raises(ValueError, match="must be") as raised:
        QuantizedFormat(*given)
    assert str(raised.value) == message


def test_data_of_another_shape_is_refused():
    format = QuantizedFormat(8, 32)
    data = torch.zeros(2, 3, format.block_bytes, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"must have the shape \[1, 3, 1088\] for this format and"):
        QuantizedWeight(data, format, n_out=32, n_in=96)
    with pytest.raises(ValueError, match=r"must have the shape \[6, 68\] .* got \[6, 34\]"):
        QuantizedEmbeddingWeight(data.view(-1, 34)[:6], format, n_embd=64)


def test_parts_that_do_not_fit_are_refused():
    format = QuantizedFormat(4, 32, has_offset=True)
    levels, scales, offsets = parts(3, 64, format)
    with pytest.raises(ValueError, match="`offsets` must be given for QuantizedFormat"):
        pack_weight(levels, scales, None, format)
    with pytest.raises(ValueError, match="`offsets` must be None for QuantizedFormat"):
        pack_weight(levels, scales, offsets, QuantizedFormat(4, 32))
    with pytest.raises(ValueError, match=r"must have the shape \[3, 1\] to go with levels of"):
        pack_weight(levels[:, :32], scales, offsets, format)
