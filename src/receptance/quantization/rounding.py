"""The rounding of a matrix to 4 or 8 bits that does its products the least harm.

A row w of a matrix meets inputs x, and the error of its product with them is, were the columns of
x independent of each other,

    E[(Σ_k x_k (w_k - ŵ_k))²] = Σ_k E[x_k²] (w_k - ŵ_k)²

which is a sum over the groups of the row. For each group the scale is searched that makes it least:
several scales around the one with which the levels just reach the largest weight each give levels,
and the levels give the scale that fits them best, by least squares. E[x_k²], the importance of a
column, is 1 unless a text was run through the model (`calibration.py`). Scales are rounded to
bfloat16 before levels are chosen for them, so that the levels make good what that costs.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from receptance.ops.quantized_linear import (
    PANEL_ROWS,
    QuantizedEmbeddingWeight,
    QuantizedFormat,
    QuantizedWeight,
    pack_embedding,
    pack_weight,
)

# Levels that the largest weight of a group reaches in the scales that are tried, as shares of the
# most that there are. Below 1 steps are wider than need be, above 1 the largest weight is cut.
_REACHES = {4: torch.linspace(0.85, 1.2, 12).tolist(), 8: torch.linspace(0.97, 1.03, 12).tolist()}

# Weights that are rounded at once: few enough for their temporaries to stay in the cache.
_BLOCK_WEIGHTS = 1 << 18

# Of an input, in shares of the mean.
_LEAST_IMPORTANCE = 1e-3

# The inverse of a smaller scale may be infinite; weights so small are 0.
_LEAST_SCALE = torch.finfo(torch.float32).tiny


class Rounded(NamedTuple):
    """The levels of some rows, and what they stand for."""

    levels: UInt8[Tensor, "N K"]
    scales: Float[Tensor, "N G"]
    offsets: Float[Tensor, "N G"] | None


def quantize_weight(
    weight: Float[Tensor, "N K"],
    format: QuantizedFormat,
    importance: Float[Tensor, " K"] | None = None,
) -> QuantizedWeight:
    """Return `weight` rounded to `format` and packed.

    Beside the result it takes memory for a few rows only, so `weight` may be memory-mapped.

    Args:
        weight: A matrix of finite numbers, of any dtype.
        format: What to round to.
        importance: E[x_k²] of the inputs, at least 0; None is 1.
    """
    N, K = weight.shape
    P, G, block_bytes = format.weight_shape(N, K)
    data = torch.empty(P, G, block_bytes, dtype=torch.uint8)

    def fill(rows: slice) -> None:
        panels = slice(rows.start // PANEL_ROWS, -(-rows.stop // PANEL_ROWS))
        parts = rounded(weight[rows].detach().float(), format, importance)
        data[panels] = pack_weight(*parts, format).data

    _for_each_block(N, K, fill)
    return QuantizedWeight(data, format, N, K)


def quantize_embedding(
    weight: Float[Tensor, "V K"], format: QuantizedFormat
) -> QuantizedEmbeddingWeight:
    """Return the rows of an embedding rounded to `format` and packed; see `quantize_weight`.

    No column is more important: the rows are not multiplied, but normalised.
    """
    V, K = weight.shape
    data = torch.empty(format.embedding_shape(V, K), dtype=torch.uint8)

    def fill(rows: slice) -> None:
        data[rows] = pack_embedding(*rounded(weight[rows].detach().float(), format), format).data

    _for_each_block(V, K, fill)
    return QuantizedEmbeddingWeight(data, format, K)


def rounded(
    weight: Float[Tensor, "N K"],
    format: QuantizedFormat,
    importance: Float[Tensor, " K"] | None = None,
) -> Rounded:
    """Return the levels, scales and offsets of a few rows; see the top of this file."""
    N, K = weight.shape
    w = _by_groups(weight, format)
    i = None
    if importance is not None:
        # Relative, since what an input is measured in changes nothing; and an input that was always
        # 0 on one text need not be on another.
        relative = importance.float() / importance.float().mean()
        i = _by_groups(relative.nan_to_num(1.0).clamp(min=_LEAST_IMPORTANCE)[None], format)
    search = _search_with_offset if format.has_offset else _search
    scale, offset = search(w, i, format)
    q = _levels(w if offset is None else w - offset, scale, format).add_(format.zero_level)
    levels = q.to(torch.uint8).permute(1, 2, 0).reshape(N, -1)[:, :K]
    return Rounded(levels, scale, offset)


def _for_each_block(n_rows: int, n_columns: int, fill: Callable[[slice], None]) -> None:
    """Call `fill` with blocks of whole panels of rows, on as many threads as PyTorch has.

    Each op runs on the thread that calls it: blocks are so small that threads which share an op
    would wait for each other most of the time (seen: eleven times as slow on busy cores).
    """
    step = max(1, _BLOCK_WEIGHTS // (n_columns * PANEL_ROWS)) * PANEL_ROWS
    blocks = [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # new threads begin with the number that was set last
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(fill, blocks):
                pass  # raises what a block raised
    finally:
        torch.set_num_threads(n_threads)


def _by_groups(rows: Tensor, format: QuantizedFormat) -> Float[Tensor, "g N G"]:
    """Return the rows with the columns of a group on the first axis, where sums are fastest.

    A last group that is not full is filled with its last column, which changes no extreme.
    """
    fill = -rows.shape[1] % format.group_size
    whole = F.pad(rows[None], (0, fill), mode="replicate")[0] if fill else rows
    return whole.unflatten(1, (-1, format.group_size)).permute(2, 0, 1).contiguous()


def _levels(w: Tensor, scale: Tensor, format: QuantizedFormat) -> Tensor:
    """Return q - z, the level nearest to each weight."""
    most = format.zero_level - 1
    least = -most if format.bits == 8 else -format.zero_level
    inverse = torch.where(scale.abs() < _LEAST_SCALE, 0.0, 1 / scale)
    return (w * inverse).round_().clamp_(least, most)


def _search(
    w: Float[Tensor, "g N G"], i: Float[Tensor, "g one G"] | None, format: QuantizedFormat
) -> tuple[Float[Tensor, "N G"], None]:
    """Return the scale of each group, and no offset."""
    # 4 bits have a level more below 0 than above, so the largest weight gets the scale's sign.
    most = format.zero_level if format.bits == 4 else format.zero_level - 1
    high, low = w.amax(0), w.amin(0)
    extreme = torch.where(high > -low, high, low)
    iw = w if i is None else i * w
    best, least_error = _bfloat16(-extreme / most), torch.full_like(extreme, torch.inf)
    for reach in _REACHES[format.bits]:
        l = _levels(w, -extreme / (most * reach), format)  # noqa: E741 (as in the equations)
        wl, ll = (iw * l).sum(0), (l.square_() if i is None else l.square_().mul_(i)).sum(0)
        scale = _bfloat16(torch.where(ll > 0, wl / ll, 0.0))
        error = scale * (scale * ll - 2 * wl)  # but for Σ i w², which is the same for all
        is_better = error < least_error
        best = torch.where(is_better, scale, best)
        least_error = torch.where(is_better, error, least_error)
    return best, None


def _search_with_offset(
    w: Float[Tensor, "g N G"], i: Float[Tensor, "g one G"] | None, format: QuantizedFormat
) -> tuple[Float[Tensor, "N G"], Float[Tensor, "N G"]]:
    """Return the scale and the offset of each group."""
    span = (1 << format.bits) - 1 if format.bits == 4 else 2 * (format.zero_level - 1)
    high, low = w.amax(0), w.amin(0)
    centre, step = high / 2 + low / 2, high / span - low / span
    # The levels of 4 bits lie around -1/2.
    shift = 0.5 if format.bits == 4 else 0.0
    ones = torch.ones(len(w), 1, 1) if i is None else i
    iw, total = ones * w, ones.sum(0)
    sum_w = iw.sum(0)
    best_scale, best_offset = _bfloat16(step), _bfloat16(centre)
    least_error = torch.full_like(centre, torch.inf)
    for reach in _REACHES[format.bits]:
        scale = step / reach
        l = _levels(w - (centre + shift * scale), scale, format)  # noqa: E741
        il = ones * l
        wl, sum_l, ll = (iw * l).sum(0), il.sum(0), (il * l).sum(0)
        spread = total * ll - sum_l.square()
        scale = _bfloat16(torch.where(spread > 0, (total * wl - sum_l * sum_w) / spread, 0.0))
        offset = _bfloat16((sum_w - scale * sum_l) / total)
        error = scale * (scale * ll - 2 * wl + 2 * offset * sum_l)
        error += offset * (total * offset - 2 * sum_w)
        is_better = error < least_error
        best_scale = torch.where(is_better, scale, best_scale)
        best_offset = torch.where(is_better, offset, best_offset)
        least_error = torch.where(is_better, error, least_error)
    return best_scale, best_offset


def _bfloat16(numbers: Tensor) -> Tensor:
    """Return the numbers rounded to bfloat16, in float32."""
    return numbers.bfloat16().float()
