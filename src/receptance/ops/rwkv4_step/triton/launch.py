"""The order of the step's kernels, and the shapes of their tiles.

Six launches a layer and three beside them, whatever the batch:

    embed                        x = LayerNorm(embedding row)
    norm_mix, time_mix           its blends; k, v, r, the sums of WKV, σ(r) ⊙ wkv
    product                      x += W_o …
    norm_mix, channel_mix        its blends; max(k, 0)², r
    product                      x += σ(r) ⊙ W_v …
    norm_mix, product            LayerNorm(x), logits

Every weight is read once for each tile of rows, and of the pool the rows of this step's slots.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from receptance.ops.half_linear import ROOT, SQUARE
from receptance.ops.quantized_linear import PANEL_ROWS, QuantizedFormat
from receptance.ops.rwkv4_step.triton.plan import LayerPlan, Matrix, TritonPlan, Workspace
from receptance.ops.triton import kernels_of


class Tile(NamedTuple):
    """What a program of a product computes, and how."""

    rows: int
    """Sequences of the batch."""
    columns: int
    """Rows of the matrix."""
    depth: int
    """Columns of the matrix that are read at a time."""
    num_warps: int
    num_stages: int


def tile_of(batch: int, n_in: int, dtype: torch.dtype) -> Tile:
    """Return the tile of a product, by its shape alone.

    `rows` decides the instructions that multiply, and with them the order of a sum. That of 16 and
    of 32 is one and the same: a row has the same bits in batches of up to 32. 64 rows of bfloat16
    or float16 are multiplied by another instruction where the GPU has one, so larger batches agree
    among themselves. Integers have no order, and float32 has one tile: these agree in all batches.

    Args:
        batch: Sequences of the step.
        n_in: Columns of the matrix, K.
        dtype: Of what enters it.
    """
    is_wide = batch > 32
    rows = 16 if batch <= 16 else 64 if is_wide else 32
    most = max(16, 1 << (n_in - 1).bit_length())  # no deeper than the matrix is wide
    if dtype == torch.float32:
        return Tile(16, 16, min(32, most), num_warps=4, num_stages=3)
    if dtype == torch.int8:
        return Tile(rows, PANEL_ROWS, min(128, max(32, most)), num_warps=4, num_stages=3)
    return Tile(rows, 32 if is_wide else 16, min(128, most), num_warps=4, num_stages=4)


def row_block(n_embd: int) -> int:
    """Return the channels that a program of a norm writes."""
    return min(1024, max(32, 1 << (n_embd - 1).bit_length()))


def launch_step(plan: TritonPlan, work: Workspace, pool: Sequence[Tensor], batch: int) -> None:
    """Launch all kernels of a step, of the tokens and slots in `work`; it waits for none.

    Args:
        plan: The weights.
        work: The buffers: `tokens` and `slots` are read, `logits` is written.
        pool: The five tensors of a state of RWKV-4, whose rows at `slots` change.
        batch: Sequences; at least one and at most `work.capacity`.
    """
    _Launches(plan, work, batch).run(pool)


class _Launches:
    """The launches of a step of one batch size."""

    def __init__(self, plan: TritonPlan, work: Workspace, batch: int) -> None:
        self._plan, self._work, self._batch = plan, work, batch
        self._kernels = kernels_of(__name__.rpartition(".")[0])
        self._C, self._H = plan.n_embd, 4 * plan.n_embd
        self._C_pad, self._H_pad = plan.padded(self._C), plan.padded(self._H)
        self._plane = work.capacity * self._C_pad
        self._levels = _levels(plan.format)
        # A squared key would pass the end of float16.
        is_half = plan.input_dtype == torch.float16
        self._root, self._square = (ROOT, SQUARE) if is_half else (1.0, 1.0)
        self._row_grid = (batch, -(-self._C // row_block(self._C)))

    def run(self, pool: Sequence[Tensor]) -> None:
        time_mix_x, channel_mix_x, *sums = pool
        plan, work = self._plan, self._work
        self._embed(n_slots=time_mix_x.shape[1])
        for i, layer in enumerate(plan.layers):
            vectors, matrices = layer.vectors, layer.matrices
            self._mix(vectors.ln1_weight, vectors.ln1_bias, layer.mixes, time_mix_x[i])
            self._time_mix(layer, [each[i] for each in sums])
            self._add(matrices["output"], work.gated, work.gated_scales, self._C, self._C_pad)
            norm = vectors.ln2_weight, vectors.ln2_bias
            self._mix(*norm, layer.channel_mixes, channel_mix_x[i])
            self._channel_mix(layer)
            squared = work.squared, work.squared_scales
            self._add(matrices["channel_value"], *squared, self._H, self._H_pad, work.r)
        self._mix(plan.weights.ln_out_weight, plan.weights.ln_out_bias)
        inputs = (work.mixed, work.mixed_scales, *plan.head, work.x, work.logits)
        sizes = self._batch, plan.vocab_size, self._C, self._C_pad
        self._product(inputs, sizes, ADDS=False, HAS_GATE=False, SQUARE=1.0)

    def _embed(self, *, n_slots: int) -> None:
        plan, work = self._plan, self._work
        ln0_weight, ln0_bias = plan.weights.ln0_weight, plan.weights.ln0_bias
        is_packed = plan.embedding.data.dtype == torch.uint8
        none = work.x  # read by no kernel that has no norm
        self._kernels.embed_kernel[self._row_grid](
            work.tokens,
            work.slots,
            *plan.embedding,
            none if ln0_weight is None else ln0_weight,
            none if ln0_bias is None else ln0_bias,
            work.x,
            work.rows,
            *(plan.vocab_size, n_slots, self._C, plan.eps),
            HAS_NORM=ln0_weight is not None,
            BLOCK=row_block(self._C),
            **(self._levels if is_packed else _levels(None)),
        )

    def _mix(
        self,
        weight: Tensor,
        bias: Tensor,
        mixes: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> None:
        """Normalise x, and blend it with the token before if there are mixes."""
        work = self._work
        self._kernels.norm_mix_kernel[self._row_grid](
            work.x,
            weight,
            bias,
            work.x if mixes is None else mixes,
            work.x if shift is None else shift,
            *(work.rows, work.mixed, work.mixed_scales),
            *(self._plane, self._C, self._C_pad, self._plan.eps),
            MIXES=0 if mixes is None else len(mixes),
            BITS=self._levels["BITS"],
            BLOCK=row_block(self._C),
        )

    def _time_mix(self, layer: LayerPlan, sums: Sequence[Tensor]) -> None:
        work, matrices = self._work, layer.matrices
        tile = self._tile(self._C)
        self._kernels.time_mix_kernel[self._grid(tile, self._C)](
            *(work.mixed, work.mixed_scales),
            *(*matrices["key"], *matrices["value"], *matrices["receptance"]),
            *(layer.vectors.log_w, layer.vectors.u, *sums),
            *(work.rows, work.gated, work.gated_scales),
            *(self._plane, self._batch, self._C, self._C_pad),
            **self._options(tile),
        )

    def _channel_mix(self, layer: LayerPlan) -> None:
        work, matrices = self._work, layer.matrices
        tile = self._tile(self._C)
        (key,), (receptance,) = self._grid(tile, self._H), self._grid(tile, self._C)
        self._kernels.channel_mix_kernel[(key + receptance,)](
            *(work.mixed, work.mixed_scales),
            *(*matrices["channel_key"], *matrices["channel_receptance"]),
            *(work.squared, work.squared_scales, work.r),
            *(self._plane, self._batch, self._C, self._C_pad, self._H, self._H_pad),
            ROOT=self._root,
            **self._options(tile),
        )

    def _add(
        self,
        matrix: Matrix,
        inputs: Tensor,
        scales: Tensor,
        n_in: int,
        padded: int,
        r: Tensor | None = None,
    ) -> None:
        """Add a product to x, through a gate if there is an r."""
        x = self._work.x
        tensors = (inputs, scales, *matrix, x if r is None else r, x)
        sizes = self._batch, self._C, n_in, padded
        square = 1.0 if r is None else self._square  # what has a gate is of squares
        self._product(tensors, sizes, ADDS=True, HAS_GATE=r is not None, SQUARE=square)

    def _product(
        self, tensors: tuple[Tensor, ...], sizes: tuple[int, int, int, int], **what: bool | float
    ) -> None:
        _, n_out, n_in, _ = sizes
        tile = self._tile(n_in)
        self._kernels.product_kernel[self._grid(tile, n_out)](
            *tensors, *sizes, **what, **self._options(tile)
        )

    def _tile(self, n_in: int) -> Tile:
        return tile_of(self._batch, n_in, self._plan.input_dtype)

    def _grid(self, tile: Tile, n_out: int) -> tuple[int]:
        """Return one program for each tile; those that read the same weights are neighbours."""
        return (-(-self._batch // tile.rows) * -(-n_out // tile.columns),)

    def _options(self, tile: Tile) -> dict[str, Any]:
        return {
            **self._levels,
            "ROWS": tile.rows,
            "BLOCK_N": tile.columns,
            "BLOCK_K": tile.depth,
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }


def _levels(format: QuantizedFormat | None) -> dict[str, Any]:
    """Return what kernels are told of a format; of numbers, that there are no levels."""
    if format is None:
        return {"BITS": 0, "GROUP": 32, "OFFSET": False}
    return {"BITS": format.bits, "GROUP": format.group_size, "OFFSET": format.has_offset}
