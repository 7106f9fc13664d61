"""What is launched, and in which tiles: those in which a row's sums have one order."""

from collections import Counter
from typing import Any

import pytest
import torch

from receptance.ops.rwkv4_step.triton import launch
from receptance.ops.rwkv4_step.triton.launch import launch_step, row_block, tile_of
from receptance.ops.rwkv4_step.triton.plan import make_plan, make_workspace
from tests.step_weights import L, V, make_pool, make_weights


class Counting:
    """Stands for the kernels, and counts launches and programs instead of running them."""

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.programs: Counter[str] = Counter()

    def __getattr__(self, name: str) -> "Counted":
        return Counted(name, self)


class Counted:
    """Stands for a kernel."""

    def __init__(self, name: str, counting: Counting) -> None:
        self.name, self.counting = name, counting

    def __getitem__(self, grid: tuple[int, ...]) -> "Counted":
        self.counting.programs[self.name] += torch.Size(grid).numel()
        return self

    def __call__(self, *_: Any, **__: Any) -> None:
        self.counting.launches[self.name] += 1


@pytest.mark.parametrize(("batch", "tiles"), [(1, 1), (16, 1), (17, 2)])
def test_a_layer_is_six_launches_whatever_the_batch(batch, tiles, monkeypatch):
    counting = Counting()
    monkeypatch.setattr(launch, "kernels_of", lambda _: counting)
    plan = make_plan(make_weights(torch.float32), vocab_size=V, eps=1e-5, format=None)
    launch_step(plan, make_workspace(plan, batch), make_pool(), batch)
    assert counting.launches.total() == 6 * L + 3
    # 48 channels are 3 blocks of 16; the channel mix has 12 of keys too, and the head's 19 are 2.
    assert counting.programs["time_mix_kernel"] == 3 * tiles * L
    assert counting.programs["channel_mix_kernel"] == 15 * tiles * L
    assert counting.programs["product_kernel"] == (3 + 3) * tiles * L + 2 * tiles
    assert counting.programs["norm_mix_kernel"] == batch * (2 * L + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_batches_of_up_to_32_differ_in_nothing_but_rows(dtype):
    few, more = tile_of(1, 4096, dtype), tile_of(32, 4096, dtype)
    assert few._replace(rows=32) == more
    assert tile_of(16, 4096, dtype) == few
    assert tile_of(17, 4096, dtype) == more
    assert tile_of(33, 4096, dtype).rows == 64


def test_float32_has_one_tile_whatever_the_batch():
    assert len({tile_of(batch, 768, torch.float32) for batch in (1, 17, 300)}) == 1


@pytest.mark.parametrize("n_in", [1, 24, 40, 768, 4096, 16384])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_tiles_are_what_the_instructions_take(n_in, dtype):
    for batch in (1, 31, 32, 33, 1000):
        tile = tile_of(batch, n_in, dtype)
        assert tile.depth % (32 if dtype == torch.int8 else 16) == 0
        assert tile.depth & (tile.depth - 1) == 0
        assert tile.rows >= 16
        assert tile.columns == 32 or (dtype != torch.int8 and tile.columns == 16)


def test_a_program_of_a_norm_has_whole_blocks_of_levels():
    assert [row_block(n) for n in (1, 24, 40, 768, 5120)] == [32, 32, 64, 1024, 1024]
