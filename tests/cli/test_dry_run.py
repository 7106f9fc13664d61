"""A dry run tells what a run would do and cost, with and without its data, and leaves nothing."""

from pathlib import Path
from typing import Any

import pytest

from receptance.checkpoint import save_model
from receptance.cli import dry_run
from receptance.cli.dry_run import describe
from receptance.cli.run_data import open_stores, run_batches
from receptance.data import MixedBatches
from receptance.errors import ConfigError, DataError
from receptance.quantization import quantize_model
from receptance.training import read_config
from tests.cli.two_sources import make_two_sources
from tests.random_models import random_rwkv4

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.toml"))
WITHOUT_STORE = ("data.store=none", "model.vocab_size=256")


@pytest.fixture(autouse=True)
def _machine(monkeypatch) -> None:
    """Let the machine have a known speed, which takes no time to measure."""
    monkeypatch.setattr("receptance.training.peak_flops_per_s", lambda *_: 1e9)


def told(place: Path, *settings: str, world_size: int = 1, **given: Any) -> str:
    config = read_config(place / "run.toml", settings)
    return describe(config, given.get("resume", "auto"), world_size=world_size)


def rows(text: str) -> dict[str, str]:
    """Return the lines that have a name, by it; names and values are two spaces apart."""
    pairs = [line.strip().split("  ", 1) for line in text.splitlines()]
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def test_a_run_is_told_from_its_model_to_its_first_sample(place):
    found = rows(told(place))

    assert found["run"] == "runs/tiny, a new one"
    assert found["model"] == "RWKV-4, L1 D16 V256, 11,760 parameters"
    assert found["embedding"] == found["head"] == "4,096"
    assert found["time mix, matrices"] == "1,024"
    assert found["channel mix, vectors"] == "32"
    assert found["compute"].startswith("4.4544e+04 FLOP a token (1.4848e+04 forward), 3.421e+07 in")
    assert found["time"] == (
        "at least 0.0 seconds on this machine, whose float32 products reach 1 GFLOP/s"
    )
    assert found["steps"] == "12 of 4 × 16 tokens"
    assert found["tokens"].startswith("768, 0.")
    assert found["tokens"].endswith(" epochs of the store")
    assert found["parameter groups"].startswith("1, sha256 ")
    assert found["first sample"].startswith("epoch 0, token ")
    assert not (place / "runs").exists()


@pytest.mark.usefixtures("place")
def test_the_prime_of_the_authors_order_is_told(receptance):
    shown = receptance("train", "run.toml", "--dry-run", "data.order=authors").stdout
    assert "samples each, the prime of the authors' order" in shown


def test_the_parts_of_memory_add_up(place):
    text = told(place)

    total, rest = rows(text)["memory"].split(" MB ")
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("memory"))
    parts = [float(line.split()[-2]) for line in lines[begin + 1 :] if line.endswith(" MB")]
    assert rest == "in all, for 4 sequences at once"
    assert len(parts) == 6
    assert sum(parts) == pytest.approx(float(total), abs=0.01)


def test_the_learning_rate_is_told_where_it_changes_its_course(place):
    settings = (
        "schedule.warmup_steps=2",
        "schedule.constant_steps=2",
        "data.later_batch_size=8",
        "data.later_batch_step=4",
    )
    found = rows(told(place, *settings))

    assert found["steps"] == "4 of 4 × 16 tokens, then 8 of 8 × 16"
    marks = ("first", "warm-up done", "decay begins, batch grows", "middle", "last")
    assert [found[mark].split() for mark in marks] == [
        ["3.000e-04", "1", "0", "4"],
        ["6.000e-04", "3", "128", "4"],
        ["6.000e-04", "5", "256", "8"],
        ["1.863e-04", "7", "512", "8"],
        ["1.000e-05", "12", "1,152", "8"],
    ]


def test_segments_make_samples_longer(place):
    found = rows(told(place, "data.segments=3"))

    assert found["steps"] == "12 of 4 × 16 tokens; a sample of 48 is read in 3 steps"


def test_the_first_sample_is_that_of_the_run_and_only_its_beginning(place):
    short, long = (told(place, f"data.ctx_len={length}") for length in (40, 1000))

    assert "of house" in "".join(short.splitlines()[-2:])
    assert not short.endswith("…")
    assert long.endswith("…")
    assert long.count("sat on the mat.") < 15


def test_groups_are_named_with_what_moves_them(place):
    settings = ("optimizer.weight_decay=0.1", "optimizer.time_decay_lr_multiplier=2.0")
    text = told(place, *settings)

    assert rows(text)["parameter groups"].startswith("3, sha256 ")
    assert "lr × 2, weight decay 0: 16 parameters in 1 tensors\n" in text
    assert " blocks.*.att.time_decay\n" in text
    assert "lr × 1, weight decay 0.1: " in text


def test_without_a_store_all_but_the_data_is_told(place):
    with_store = rows(told(place, "model.vocab_size=256"))
    found = rows(told(place, *WITHOUT_STORE))

    assert found["run"] == "runs/tiny, which would be begun or gone on with once its store is there"
    assert found["tokens"] == "768, epochs unknown without the store"
    assert found["data"] == "no token store at 'none' yet: `receptance data prepare`"
    for name in ("model", "compute", "steps", "memory", "parameter groups", "last"):
        assert found[name] == with_store[name]


def test_without_a_store_the_vocabulary_must_be_said(place):
    with pytest.raises(DataError, match="no token store at 'none'"):
        told(place, "data.store=none")


def test_a_store_that_is_damaged_is_not_taken_for_none(place):
    (place / "broken").mkdir()

    with pytest.raises(DataError, match="broken"):
        told(place, "data.store=broken", "model.vocab_size=256")


def test_the_weights_to_begin_with_are_named(place):
    model = random_rwkv4(1, 16, 256)
    save_model(model, None, place / "there")

    assert "there\n" in told(place, "training.init_from=there")
    assert "gone, which is not there yet\n" in told(place, "training.init_from=gone")
    assert "o/n, from the hub\n" in told(place, "training.init_from=o/n")
    # Nothing is downloaded, so of these nobody knows yet.
    adapter = told(place, "training.init_from=o/n", "finetune.method=lora")
    assert "o/n, from the hub, taken here for plain weights\n" in adapter


def test_a_rounded_base_takes_the_memory_of_its_bytes(place):
    model = random_rwkv4(1, 16, 256)
    save_model(model, None, place / "plain")
    save_model(quantize_model(model, "int4"), None, place / "rounded")
    found = {
        base: rows(told(place, "finetune.method=lora", f"training.init_from={base}"))
        for base in ("plain", "rounded")
    }

    assert found["rounded"]["weights to begin with"] == "rounded, rounded to 4 bits"
    assert found["rounded"]["fine-tuning"] == found["plain"]["fine-tuning"]
    weights = {base: float(each["weights"].split()[0]) for base, each in found.items()}
    assert weights["rounded"] < weights["plain"] / 2
    with pytest.raises(ConfigError, match="must hold plain weights where all are trained"):
        told(place, "training.init_from=rounded")


def test_ranks_share_the_memory(place):
    alone = rows(told(place, "training.parallel=fsdp2"))
    two = rows(told(place, "training.parallel=fsdp2", world_size=2))

    assert two["memory"].endswith("in each of 2 ranks (fsdp2), for 2 sequences at once")
    assert float(two["moments"].split()[0]) < float(alone["moments"].split()[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((), "`training.parallel` must be 'ddp' or 'fsdp2' for 3 ranks, got 'none'"),
        (("training.parallel=ddp",), "must be multiples of 3, the number of ranks, got 4"),
    ],
)
def test_what_so_many_ranks_cannot_share_is_refused(place, settings, words):
    with pytest.raises(ConfigError, match=words):
        told(place, *settings, world_size=3)


def test_a_run_that_has_begun_is_told_from_its_checkpoint_on(receptance, place):
    receptance("train", "run.toml")

    assert rows(told(place))["run"] == "runs/tiny, from step-00000012 on"


def test_a_run_that_has_begun_needs_no_weights_to_begin_with(receptance, place):
    model = random_rwkv4(1, 16, 256)
    save_model(model, None, place / "there")
    receptance("train", "run.toml", "training.init_from=there")
    save_model(quantize_model(model, "int4"), None, place / "there", replace=True)

    begun = rows(told(place, "training.init_from=there"))
    assert begun["run"] == "runs/tiny, from step-00000012 on"
    with pytest.raises(ConfigError, match="must hold plain weights where all are trained"):
        told(place, "training.init_from=there", "name=another")
    with pytest.raises(ConfigError, match=r"`seed` was 1, now 2"):
        told(place, "seed=2")
    with pytest.raises(ConfigError, match="must be new to begin anew"):
        told(place, resume="never")


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_recipe_can_be_told_before_its_data_is_there(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(recipe)
    world_size = {"none": 1, "ddp": 8, "fsdp2": 32}[config.training.parallel]

    found = rows(describe(config, "auto", world_size=world_size))

    assert found["model"].startswith("RWKV-4, L")
    assert found["data"].startswith("no token store at '")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "told_of_it"),
    [
        ("full", "full: 11,760 parameters, 100.000% of the model"),
        ("state", "state: 64 parameters, 0.544% of the model"),
        ("lora", "lora: 2,560 parameters, 21.769% of the model"),
    ],
)
def test_what_is_fine_tuned_is_told(place, method, told_of_it):
    found = rows(told(place, f"finetune.method={method}", "training.init_from=there"))

    assert found["fine-tuning"] == told_of_it
    assert "fine-tuning" not in rows(told(place))


def test_sources_are_told_with_their_share_their_epochs_and_what_they_hold_out(place):
    make_two_sources(place)

    text = told(place)

    batches = run_batches(open_stores(config := read_config(place / "run.toml")), config)
    found = rows(text)
    assert isinstance(batches, MixedBatches)
    assert found["tokens"] == "960, of 2 sources"
    for name, share, source in zip(("prose", "numbers"), (7, 3), batches.sources, strict=True):
        epochs = 960 * share / 10 / source.epoch_tokens
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith(f"  {share} of 10 samples, {epochs:.2f} epochs of it")
    assert "bytes, of prose\n" in text
    assert "bytes, of numbers\n" in text
    assert found["first sample"].startswith("prose, epoch 0, token ")


def test_a_source_that_is_not_there_is_named(place):
    make_two_sources(place)
    (place / "numbers").rename(place / "away")

    found = rows(told(place, "model.vocab_size=256"))

    assert found["data"] == "no token store at 'numbers' yet: `receptance data prepare`"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "0.3 seconds"),
        (119.0, "119.0 seconds"),
        (120.0, "2.0 minutes"),
        (7200.0, "2.0 hours"),
        (3.5e6, "40.5 days"),
        (1e12, "31,688.7 years"),
    ],
)
def test_a_time_is_told_in_the_largest_unit_of_which_there_are_two(seconds, words):
    assert dry_run._in_words(seconds) == words


@pytest.mark.usefixtures("unchecked_shapes")
def test_the_time_is_that_of_all_products_shared_by_the_ranks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(RECIPES[0].with_name("rwkv4-169m-pile.toml"))
    alone = rows(describe(config, "auto"))["time"]
    shared = rows(describe(config, "auto", world_size=8))["time"]
    # 6 (VC + 13 C² L) of 332 billion tokens at 10⁹ a second
    assert alone.startswith("at least 8,247.5 years on this machine")
    assert shared.startswith("at least 1,030.9 years on 8 machines like this one")
