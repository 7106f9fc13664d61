"""Ranks share a run on GPUs, through NCCL, by the code that shares it on CPUs, through gloo.

NCCL wants a GPU for each rank. Where there is one, a rank exchanges with nobody but itself, which
takes the same calls: what is built, sent, cut into parts and put together again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist

from receptance.training.processes.ranks import Ranks, _join
from tests.tolerances import FLOAT32_LOSS
from tests.training import scenarios
from tests.training.on_ranks import Nursery, RankProcesses

GIVEN: dict[str, Any] = {"precision": "float32"}
# The same kernels in the same order, but for sums of PyTorch's on a GPU that have none. A step of
# AdamW is as long for a gradient of almost 0 as for any other, and may go either way; such a weight
# is one that the loss hardly depends on.
LOSS: dict[str, Any] = {"rtol": 10 * FLOAT32_LOSS, "atol": 1e-4}
SUM_OF_LOGITS: dict[str, Any] = {"rtol": 0, "atol": 1e-2}
"""Of 820 numbers of order 1."""


class Several(Ranks):
    """Ranks that take themselves for several."""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other; nobody asks how many there are."""
        return False


@contextmanager
def joined(device: str) -> Iterator[Several]:
    """Connect this process to itself."""
    own, store = torch.device(device, 0), dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    ranks = _join(store, 0, 1, own, step_timeout_s=60.0, start_timeout_s=60.0)
    try:
        yield Several(**vars(ranks))
    finally:
        dist.destroy_process_group()


def as_alone(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Return what one rank sees that shares nothing, on the same device."""
    return scenarios.training(
        Ranks(device=ranks.device), parallel="none", folder=str(folder), **GIVEN
    )


def assert_same(seen: dict[str, Any], alone: dict[str, Any], folder: Path, parallel: str) -> None:
    torch.testing.assert_close(seen["losses"], alone["losses"], **LOSS)
    torch.testing.assert_close(seen["evaluated"], alone["evaluated"], **SUM_OF_LOGITS)
    first = load_file(folder / f"{parallel}-first.safetensors")
    for name, value in load_file(folder / "none-first.safetensors").items():
        assert torch.equal(first[name], value), name


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_rank_that_exchanges_with_itself_trains_as_one_alone(device, parallel, tmp_path):
    with joined(device) as ranks:
        assert dist.get_backend(ranks.group) == ("gloo" if device == "cpu" else "nccl")
        assert ranks.mean(1.5, 2.5) == [1.5, 2.5]
        assert ranks.for_saving().gather_objects({"a": 1}) == [{"a": 1}]
        seen = scenarios.training(ranks, parallel=parallel, folder=str(tmp_path), **GIVEN)
    assert_same(seen, as_alone(ranks, tmp_path), tmp_path, parallel)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_sharded_rank_goes_on_from_its_checkpoint(device, tmp_path):
    given: dict[str, Any] = {"parallel": "fsdp2", "folder": str(tmp_path)}
    with joined(device) as ranks:
        saved = scenarios.saved(ranks, asynchronous=True, **given)
        resumed = scenarios.resumed(ranks, **given)
    assert saved["reports"] == [(2, None)]
    assert resumed["progress"][0] == 2
    torch.testing.assert_close(resumed["losses"], saved["losses"][2:], **LOSS)
    at_save, loaded = (load_file(tmp_path / f"{name}.safetensors") for name in ("saved", "loaded"))
    for name, value in at_save.items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_gpus_train_as_one_does(parallel, tmp_path):
    nursery = Nursery()
    processes = RankProcesses(nursery, 2, device="cuda")
    first, second = processes.run("training", parallel=parallel, folder=str(tmp_path), **GIVEN)
    processes.end()
    nursery.end()
    assert first == second
    alone = as_alone(Ranks(device=torch.device("cuda")), tmp_path)
    assert_same(first, alone, tmp_path, parallel)
