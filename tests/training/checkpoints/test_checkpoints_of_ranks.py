"""Several ranks write one checkpoint, and any number of ranks goes on from it."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from receptance.models import RWKV4, RWKV4Config
from receptance.training import Checkpoints, build_optimizer, list_checkpoints
from receptance.training.checkpoints.manifest import verify
from receptance.training.checkpoints.whole_tensors import WholeTensors
from receptance.training.processes import Ranks
from tests.training.checkpoints.tiny_checkpoints import at, empty, names
from tests.training.thread_ranks import on_ranks
from tests.training.tiny_run import tiny_config


def saved_by_ranks(folder: Path, world_size: int, **settings: Any) -> None:
    """Save the first two of four sequences on rank 0 and so on, each rank with its own numbers."""
    config = RWKV4Config(n_layer=2, n_embd=16, vocab_size=256)
    torch.manual_seed(0)
    model = RWKV4(config)
    model.init_weights()
    optimizer = build_optimizer(model, tiny_config().optimizer)
    rows = torch.arange(4.0).view(1, 4, 1).expand(2, 4, 3)

    def save(ranks: Ranks) -> None:
        storage = WholeTensors(config, None, writes=ranks.is_first)
        checkpoints = Checkpoints(folder, storage, ranks=ranks, **settings)
        checkpoints.prepare(1)
        carried = {"shift": rows.chunk(world_size, dim=1)[ranks.rank]}
        checkpoints.save(model, optimizer, at(5), carried=carried)
        checkpoints.finish()
        (report,) = checkpoints.take_reports()
        assert report.failure is None

    on_ranks(world_size, save)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2), (4, 2), (1, 4)])
def test_ranks_write_one_checkpoint_and_any_number_of_them_goes_on(
    tmp_path, before, after, asynchronous
):
    saved_by_ranks(tmp_path / "new", before, asynchronous=asynchronous)
    (path,) = list_checkpoints(tmp_path / "new")
    assert verify(path).world_size == before
    assert len(list(path.glob("rank-*/random.json"))) == before

    def load(ranks: Ranks) -> list[float]:
        model, optimizer, checkpoints = empty(tmp_path / "new", ranks=ranks)
        assert checkpoints.newest_good() == path
        carried = checkpoints.load(path, model, optimizer).carried
        assert carried is not None
        return carried["shift"][0, :, 0].tolist()

    rows = on_ranks(after, load)

    assert [row for each in rows for row in each] == [0, 1, 2, 3]
    assert {len(each) for each in rows} == {4 // after}


def test_when_one_rank_fails_no_rank_has_a_checkpoint(tmp_path):
    config = RWKV4Config(n_layer=2, n_embd=16, vocab_size=256)
    model = RWKV4(config)
    model.init_weights()
    optimizer = build_optimizer(model, tiny_config().optimizer)

    class Full(WholeTensors):
        def __init__(self, rank: int) -> None:
            super().__init__(config, None, writes=rank == 0)
            self.rank = rank

        def write(self, tensors, stage) -> None:
            super().write(tensors, stage)
            if self.rank == 1:
                raise OSError(errno.ENOSPC, "No space left on device")

    def save(ranks: Ranks) -> str | None:
        checkpoints = Checkpoints(tmp_path / "new", Full(ranks.rank), ranks=ranks)
        checkpoints.prepare(1)
        checkpoints.save(model, optimizer, at(5))
        (report,) = checkpoints.take_reports()
        return report.failure

    first, second = on_ranks(2, save)

    assert first == "rank 1 failed: No space left on device"
    assert second is not None
    assert "No space left on device" in second
    assert names(tmp_path / "new") == []
