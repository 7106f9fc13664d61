"""Checkpoints of several ranks: whole again, in parts again, on any number of ranks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from receptance.checkpoint import load_checkpoint
from receptance.errors import CheckpointError
from receptance.training.processes import ALONE
from tests.tolerances import FLOAT32
from tests.training import scenarios


def same_weights(folder: Path, one: str, other: str) -> bool:
    """Return whether two files hold the same bits."""
    before, after = (load_file(folder / f"{name}.safetensors") for name in (one, other))
    return before.keys() == after.keys() and all(
        torch.equal(value, after[name]) for name, value in before.items()
    )


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_ranks_go_on_with_the_same_bits(two_ranks, tmp_path, parallel, asynchronous):
    given = {"parallel": parallel, "folder": str(tmp_path)}
    before, _ = two_ranks.run("saved", asynchronous=asynchronous, **given)
    assert before["reports"] == [[2, None]]
    after, _ = two_ranks.run("resumed", **given)
    assert after["progress"] == [2, 160, 16, 1.0]
    assert after["losses"] == before["losses"][2:]
    assert same_weights(tmp_path, "saved", "loaded")
    assert same_weights(tmp_path, "last", "again")


@pytest.mark.parametrize(
    ("wrote", "reads"),
    [
        ((2, "fsdp2"), (1, "none")),
        ((2, "fsdp2"), (2, "ddp")),
        ((2, "fsdp2"), (3, "fsdp2")),
        ((1, "none"), (2, "fsdp2")),
        ((3, "fsdp2"), (2, "fsdp2")),
    ],
)
def test_any_ranks_go_on_where_others_were(two_ranks, three_ranks, tmp_path, wrote, reads):
    def run(place, name):
        n_ranks, parallel = place
        given = {"parallel": parallel, "folder": str(tmp_path)}
        if n_ranks == 1:
            return getattr(scenarios, name)(ALONE, **given)
        return {2: two_ranks, 3: three_ranks}[n_ranks].run(name, **given)[0]

    before, after = run(wrote, "saved"), run(reads, "resumed")
    assert same_weights(tmp_path, "saved", "loaded")
    # The same order of samples, summed in other parts.
    torch.testing.assert_close(after["losses"], before["losses"][2:], **FLOAT32)


def test_every_verb_opens_the_model_of_a_sharded_checkpoint(two_ranks, tmp_path):
    two_ranks.run("saved", parallel="fsdp2", folder=str(tmp_path))
    loaded = load_checkpoint(tmp_path / "checkpoints" / "step-00000002" / "model").model
    weights = load_file(tmp_path / "saved.safetensors")
    assert all(torch.equal(each, weights[name]) for name, each in loaded.state_dict().items())


def test_a_disk_that_is_full_on_one_rank_leaves_no_checkpoint_and_training_goes_on(
    two_ranks, tmp_path
):
    for left, reports in two_ranks.run("full_disk", folder=str(tmp_path)):
        assert left == []
        (step, failure), after = reports
        assert step == 1
        assert "step-00000001/model/shard-00002" in failure
        assert "No space left on device" in failure
        assert after == [2, None]
    assert [each.name for each in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000002"]


def test_parts_of_another_model_are_refused(two_ranks, tmp_path):
    two_ranks.run("saved", parallel="fsdp2", folder=str(tmp_path))
    trained = scenarios.Trained(ALONE, "none", precision="float32")
    storage = scenarios.checkpoints_of(trained, str(tmp_path)).storage
    path = tmp_path / "checkpoints" / "step-00000002"
    optimizer = path / "optimizer"

    (path / "model" / "config.json").write_text('{"n_layer": 3}')
    with pytest.raises(CheckpointError, match="must hold a model of this run, RWKV4Config"):
        storage.restore(path, trained.model, trained.optimizer)

    two_ranks.run("saved", parallel="fsdp2", folder=str(tmp_path))
    next(optimizer.glob("shard-00002*")).unlink()
    with pytest.raises(CheckpointError, match=r"'emb.weight.exp_avg' as float32 \[41, 16\], but"):
        storage.restore(path, trained.model, trained.optimizer)

    next(optimizer.glob("shard-00001*")).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="must hold safetensors files"):
        storage.restore(path, trained.model, trained.optimizer)
