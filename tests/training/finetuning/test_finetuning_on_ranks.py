"""What is trained beside frozen weights is the same however many ranks share the batch."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from receptance.checkpoint import save_model
from receptance.training.processes import ALONE
from tests.random_models import random_rwkv4
from tests.tolerances import FLOAT32_LOSS
from tests.training import scenarios

SETTINGS = {
    "state": {"finetune_method": "state", "optimizer_lr": 5e-2, "schedule_final_lr": 1e-2},
    "lora": {"finetune_method": "lora", "finetune_rank": 2, "data_micro_batch_size": 1},
}
RESULT = {"state": "model/initial_state.safetensors", "lora": "adapter.safetensors"}

methods = pytest.mark.parametrize("method", list(SETTINGS))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with a base."""
    place = tmp_path_factory.mktemp("finetuned")
    save_model(random_rwkv4(2, 16, 256), None, place / "base")
    return place


def arguments(place: Path, method: str, name: str, **given):
    folder = place / f"{method}-{name}"
    return {"base": str(place / "base"), "folder": str(folder), **SETTINGS[method], **given}


@pytest.fixture(scope="module")
def whole(place, two_ranks):
    """Return what two ranks see that are not stopped, by method."""
    return {
        method: two_ranks.run("finetuned", **arguments(place, method, "two", **TWO))
        for method in SETTINGS
    }


TWO = {"training_parallel": "ddp"}


@methods
def test_two_ranks_train_what_one_does(place, whole, method):
    one = scenarios.finetuned(ALONE, **arguments(place, method, "one"))
    first, second = whole[method]

    assert first == second
    assert len(one["losses"]) == first["step"] == 12
    pairs = zip(one["losses"], first["losses"], strict=True)
    assert max(abs(alone - shared) for alone, shared in pairs) < FLOAT32_LOSS
    assert one["losses"][-1] < one["losses"][0]
    results = [load_file(place / f"{method}-{name}" / RESULT[method]) for name in ("one", "two")]
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert (value - results[1][name]).abs().max() < 1e-4


@methods
def test_two_ranks_that_were_stopped_come_to_the_same_bits(place, two_ranks, whole, method):
    given = arguments(place, method, "stopped", **TWO)
    stopped = two_ranks.run("finetuned", stop=5, **given)
    again = two_ranks.run("finetuned", **given)

    assert [each["step"] for each in stopped] == [5, 5]
    assert [each["sha256"] for each in again] == [each["sha256"] for each in whole[method]]
    checkpoint = place / f"{method}-stopped" / "checkpoints" / "step-00000012"
    names = {each.relative_to(checkpoint).as_posix() for each in checkpoint.rglob("*.safetensors")}
    assert names == {"trained.safetensors", "optimizer.safetensors"}


@methods
def test_one_rank_goes_on_with_what_two_began(place, two_ranks, whole, method):
    two_ranks.run("finetuned", stop=5, **arguments(place, method, "begun", **TWO))
    one = scenarios.finetuned(ALONE, **arguments(place, method, "begun"))

    expected = whole[method][0]["losses"][5:]
    assert len(one["losses"]) == len(expected)
    pairs = zip(one["losses"], expected, strict=True)
    assert max(abs(alone - shared) for alone, shared in pairs) < FLOAT32_LOSS
