"""A run on two ranks is the run on one, whatever else is put around the model."""

import json

import pytest

from receptance.data import prepare
from tests.tolerances import FLOAT32_LOSS
from tests.training.torchrun_job import Job, make_place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a token store and a run."""
    return make_place(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone(place):
    """Return the run on one rank."""
    job = Job(place, "alone", "training.parallel=none", n_ranks=1)
    assert job.end() == 0, job.said()
    return job


@pytest.mark.parametrize("around", ["", "compile", "checkpoint_layers", "both"])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_ranks_see_the_losses_of_one(place, alone, parallel, around):
    names = ["compile", "checkpoint_layers"] if around == "both" else [around] if around else []
    settings = [f"training.parallel={parallel}", *(f"training.{each}=true" for each in names)]
    job = Job(place, f"{parallel} {around}", *settings, "data.micro_batch_size=3")
    assert job.end() == 0, job.said()
    pairs = zip(alone.numbers(), job.numbers(), strict=True)
    assert max(abs(one - two) for (one, _), (two, _) in pairs) < FLOAT32_LOSS


@pytest.mark.parametrize("method", ["state", "lora"])
def test_two_ranks_fine_tune_as_one_does(place, alone, method):
    base = alone.folder / "model"
    settings = [f"finetune.method={method}", f"training.init_from={base}", "optimizer.lr=1e-3"]
    one = Job(place, f"{method} alone", *settings, "training.parallel=none", n_ranks=1)
    assert one.end() == 0, one.said()
    two = Job(place, f"{method} ddp", *settings, "data.micro_batch_size=3")
    assert two.end() == 0, two.said()
    pairs = zip(one.numbers(), two.numbers(), strict=True)
    assert max(abs(alone - shared) for (alone, _), (shared, _) in pairs) < FLOAT32_LOSS


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_ranks_weigh_by_the_tokens_that_count_on_both(place, parallel):
    if not (place / "pairs").exists():
        lines = [{"prompt": f"what is {n} squared? " * 3, "answer": str(n**2)} for n in range(60)]
        (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
        prepare([place / "pairs.jsonl"], "bytes", place / "pairs")
    settings = ["data.store=pairs", "data.batch_size=4"]
    alone = Job(place, f"pairs alone {parallel}", *settings, "training.parallel=none", n_ranks=1)
    assert alone.end() == 0, alone.said()
    job = Job(place, f"pairs {parallel}", *settings, f"training.parallel={parallel}")
    assert job.end() == 0, job.said()
    pairs = zip(alone.numbers(), job.numbers(), strict=True)
    assert max(abs(one - two) for (one, _), (two, _) in pairs) < FLOAT32_LOSS
