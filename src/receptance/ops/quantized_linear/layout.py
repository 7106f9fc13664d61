"""Matrices of 4 or 8 bit weights, and the bytes that they are, in memory as on disk.

A weight is one of 16 or 255 levels q of its group, which is g columns of a row:

    ŵ = scale · (q - z) + offset

scale and offset are bfloat16, and offset is 0 in a format without. 4 bits: q is 0 … 15 and z = 8.
8 bits: q is 1 … 255, never 0, and z = 128, so that q - z has a sign and a magnitude of 7 bits.

**A matrix** [N, K] is uint8 [P, G, block_bytes]. A panel is 32 rows, as many as a kernel sums at
once, and a block is one group of each of them, read from its first byte to its last:

    scales    32 bfloat16, of row 0, 1, …
    offsets   the same, if the format has them
    levels    8 bits: [quad of columns 0 … g/4)[row 0 … 32)[column in the quad 0 … 4), a byte each
              4 bits: [pair of quads p 0 … g/8)[row 0 … 32)[i 0 … 4), a byte each: the low half is
              the level of column 8p + i, the high half that of column 8p + 4 + i

Four columns of a row are one 32-bit lane of an integer dot product, and a row is a lane. N is
padded to whole panels and K to whole groups by rows and columns with q = z, scale = offset = 0.

**An embedding** [V, K] is uint8 [V, row_bytes], a row for each token: its G scales, its G offsets
if any, its levels; 8 bits: a byte a column; 4 bits: byte i has column 2i in its low half and
2i + 1 in its high half. K is padded as above.
"""

from dataclasses import dataclass

import torch
from jaxtyping import BFloat16, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

PANEL_ROWS = 32
"""Rows that lie beside each other in a packed matrix."""

_SCALE_BYTES = 2
_BITS = (4, 8)
_GROUP_SIZES = (32, 64, 128)


@dataclass(frozen=True)
class QuantizedFormat:
    """How many bits a weight has, and what shares a scale.

    Raises:
        ValueError: If there is no such format.
    """

    bits: int
    group_size: int
    has_offset: bool = False

    def __post_init__(self) -> None:
        for name, known in (("bits", _BITS), ("group_size", _GROUP_SIZES)):
            value = getattr(self, name)
            if type(value) is not int or value not in known:
                raise ValueError(f"`{name}` must be one of {list(known)}, got {value!r:.60}")
        if type(self.has_offset) is not bool:
            raise ValueError(f"`has_offset` must be true or false, got {self.has_offset!r:.60}")

    @property
    def zero_level(self) -> int:
        """z, the level of a weight that is its group's offset."""
        return 1 << (self.bits - 1)

    @property
    def group_bytes(self) -> int:
        """Bytes of a group of one row."""
        return self.head_bytes + self.group_size * self.bits // 8

    @property
    def block_bytes(self) -> int:
        """Bytes of a group of the 32 rows of a panel."""
        return PANEL_ROWS * self.group_bytes

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of a group, divided by its columns."""
        return self.group_bytes / self.group_size

    @property
    def head_bytes(self) -> int:
        """Bytes of scale and offset of a group of one row."""
        return _SCALE_BYTES * (1 + self.has_offset)

    def n_groups(self, n_in: int) -> int:
        """Return G, the groups of a row of `n_in` columns."""
        return -(-n_in // self.group_size)

    def weight_shape(self, n_out: int, n_in: int) -> tuple[int, int, int]:
        """Return the shape [P, G, block_bytes] of a packed matrix."""
        return -(-n_out // PANEL_ROWS), self.n_groups(n_in), self.block_bytes

    def embedding_shape(self, vocab_size: int, n_embd: int) -> tuple[int, int]:
        """Return the shape [V, row_bytes] of a packed embedding."""
        return vocab_size, self.n_groups(n_embd) * self.group_bytes


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix of `n_out` rows and `n_in` columns, packed.

    Raises:
        ValueError: If `data` is not of the shape that the rest asks for.
    """

    data: UInt8[Tensor, "P G block_bytes"]
    format: QuantizedFormat
    n_out: int
    n_in: int

    def __post_init__(self) -> None:
        _check_shape(self.data, self.format.weight_shape(self.n_out, self.n_in))

    @property
    def scales(self) -> BFloat16[Tensor, "P G numbers"]:
        """The 32 scales of each block, and then its 32 offsets if it has them; a copy."""
        return _numbers(self.data[..., : self.format.head_bytes * PANEL_ROWS])


@dataclass(frozen=True)
class QuantizedEmbeddingWeight:
    """Rows of `n_embd` columns, one for each token, packed.

    Raises:
        ValueError: If `data` is not of the shape that the rest asks for.
    """

    data: UInt8[Tensor, "V row_bytes"]
    format: QuantizedFormat
    n_embd: int

    def __post_init__(self) -> None:
        _check_shape(self.data, self.format.embedding_shape(len(self.data), self.n_embd))

    @property
    def scales(self) -> BFloat16[Tensor, "V numbers"]:
        """The G scales of each row, and then its G offsets if it has them; a copy."""
        n_groups = self.format.n_groups(self.n_embd)
        return _numbers(self.data[:, : self.format.head_bytes * n_groups])


def pack_weight(
    levels: UInt8[Tensor, "N K"],
    scales: Float[Tensor, "N G"],
    offsets: Float[Tensor, "N G"] | None,
    format: QuantizedFormat,
) -> QuantizedWeight:
    """Return the matrix scale · (levels - z) + offset, packed.

    Args:
        levels: q of each weight.
        scales: Of each group, rounded to bfloat16 here.
        offsets: The same; None in a format without.
        format: What `levels` are levels of.

    Raises:
        ValueError: If the shapes do not fit together, or `offsets` not the format.
    """
    N, K = levels.shape
    grouped, heads = _grouped(levels, scales, offsets, format, rows=-N % PANEL_ROWS)
    parts = [_bytes(each.unflatten(0, (-1, PANEL_ROWS)).transpose(1, 2)) for each in heads]
    q = grouped.unflatten(0, (-1, PANEL_ROWS))  # [P, row, G, g]
    if format.bits == 8:
        packed = q.unflatten(-1, (-1, 4)).permute(0, 2, 3, 1, 4)  # [P, G, quad, row, 4]
    else:
        low, high = q.unflatten(-1, (-1, 2, 4)).permute(0, 2, 3, 4, 1, 5).unbind(3)
        packed = low | high << 4  # [P, G, pair, row, 4]
    data = torch.cat([*parts, packed.flatten(2)], dim=-1)
    return QuantizedWeight(data, format, N, K)


def dequantize(weight: QuantizedWeight) -> Float[Tensor, "N K"]:
    """Return the matrix, in float32."""
    format, data = weight.format, weight.data
    P, G, _ = data.shape
    heads = weight.scales.unflatten(-1, (-1, PANEL_ROWS)).permute(2, 0, 3, 1).flatten(1, 2)
    packed = data[..., format.head_bytes * PANEL_ROWS :].unflatten(-1, (-1, PANEL_ROWS, 4))
    if format.bits == 8:
        quads = packed.permute(0, 3, 1, 2, 4)  # [P, row, G, quad, 4]
    else:
        quads = torch.stack([packed & 15, packed >> 4], dim=3).permute(0, 4, 1, 2, 3, 5)
    q = quads.reshape(P * PANEL_ROWS, G, format.group_size)
    return _values(q, heads, format)[: weight.n_out, : weight.n_in]


def pack_embedding(
    levels: UInt8[Tensor, "V K"],
    scales: Float[Tensor, "V G"],
    offsets: Float[Tensor, "V G"] | None,
    format: QuantizedFormat,
) -> QuantizedEmbeddingWeight:
    """Return the embedding scale · (levels - z) + offset, packed; see `pack_weight`."""
    grouped, heads = _grouped(levels, scales, offsets, format, rows=0)
    q = grouped.flatten(1)
    packed = q if format.bits == 8 else q[:, ::2] | q[:, 1::2] << 4
    data = torch.cat([*(_bytes(each) for each in heads), packed], dim=-1)
    return QuantizedEmbeddingWeight(data, format, levels.shape[1])


def dequantize_embedding(weight: QuantizedEmbeddingWeight) -> Float[Tensor, "V K"]:
    """Return the rows, in float32."""
    format, data = weight.format, weight.data
    G = format.n_groups(weight.n_embd)
    heads = weight.scales.unflatten(1, (-1, G)).transpose(0, 1)
    q = data[:, format.head_bytes * G :]
    if format.bits == 4:
        q = torch.stack([q & 15, q >> 4], dim=-1)
    q = q.reshape(len(data), G, format.group_size)
    return _values(q, heads, format)[:, : weight.n_embd]


def _check_shape(data: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(data.shape) != expected:
        raise ValueError(
            f"`data` must have the shape {list(expected)} for this format and these sizes, got "
            f"{list(data.shape)}"
        )


def _grouped(
    levels: Tensor,
    scales: Tensor,
    offsets: Tensor | None,
    format: QuantizedFormat,
    rows: int,
) -> tuple[UInt8[Tensor, "N G g"], list[Float[Tensor, "N G"]]]:
    """Return levels by groups, and the scales and offsets, all with `rows` rows of padding."""
    if (offsets is not None) != format.has_offset:
        raise ValueError(
            f"`offsets` must {'be given' if format.has_offset else 'be None'} for {format}"
        )
    N, K = levels.shape
    G = format.n_groups(K)
    heads = [scales] if offsets is None else [scales, offsets]
    if any(list(each.shape) != [N, G] for each in heads):
        raise ValueError(
            f"scales and offsets must have the shape {[N, G]} to go with levels of {[N, K]}, got "
            f"{[list(each.shape) for each in heads]}"
        )
    padding = (0, G * format.group_size - K, 0, rows)
    padded = F.pad(levels, padding, value=format.zero_level).unflatten(1, (G, format.group_size))
    return padded, [F.pad(each, (0, 0, 0, rows)) for each in heads]


def _bytes(numbers: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*bytes"]:
    """Return what bfloat16 numbers are in memory; the last axis becomes twice as long."""
    return numbers.bfloat16().contiguous().view(torch.uint8)


def _numbers(data: UInt8[Tensor, "*bytes"]) -> BFloat16[Tensor, "*shape"]:
    """Return the bfloat16 numbers that are these bytes."""
    return data.contiguous().view(torch.bfloat16)


def _values(
    q: UInt8[Tensor, "N G g"], heads: BFloat16[Tensor, "one_or_two N G"], format: QuantizedFormat
) -> Float[Tensor, "N K"]:
    """Return scale · (q - z) + offset of levels by groups.

    The product has at most 16 bits and is exact; only the sum is rounded.
    """
    values = q.float().sub_(format.zero_level).mul_(heads[0].float()[..., None])
    if format.has_offset:
        values += heads[1].float()[..., None]
    return values.flatten(1)
