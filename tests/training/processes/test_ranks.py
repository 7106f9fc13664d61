"""What the ranks know of each other."""

import pytest
import torch

from receptance.errors import ConfigError
from receptance.training.processes.ranks import ALONE, connected


def test_three_ranks_learn_the_same_of_each_other(three_ranks):
    mean = repr((0.1 + 0.1 * 3 + 0.1 * 9) / 3)
    values = [{"rank": rank, "text": "é" * (1 + 5 * rank)} for rank in range(3)]
    for rank, seen in enumerate(three_ranks.run("told")):
        assert seen == [rank, mean, "nan", True, False, values, [0, 1, 2]]


def test_a_process_alone_is_told_what_it_says():
    assert ALONE.is_first
    assert ALONE.is_alone
    assert ALONE.mean(1.5, 2.5) == [1.5, 2.5]
    assert [ALONE.any(flag) for flag in (True, False)] == [True, False]
    assert ALONE.gather_objects({"a": 1}) == [{"a": 1}]
    ALONE.barrier()


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with connected() as ranks:
        assert ranks == ALONE
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("parts_may_be_rounded")
def test_a_process_without_a_gpu_of_its_own_says_so(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(
            ConfigError, match=r"process 1 of this machine finds 1; .* --nproc-per-node 1"
        ),
        connected("cuda"),
    ):
        pass


@pytest.mark.parametrize(("device", "may_round"), [("cpu", True), ("cuda", False)])
def test_a_run_on_a_gpu_rounds_no_part_of_a_sum(
    monkeypatch, parts_may_be_rounded, device, may_round
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with connected(device) as ranks:
        assert parts_may_be_rounded() == may_round
    assert ranks.device == torch.device(device)


@pytest.mark.parametrize("world_size", ["1", "2"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missed_before_anything_else(world_size, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(ConfigError, match=r"must find a GPU, but PyTorch .* sees none"):
        connected("cuda").__enter__()
