"""A band is what its runs were and a little more, and another run is known by what differs."""

import math
from dataclasses import replace

import pytest

from receptance.cli.run_reference import (
    REFERENCES,
    Reference,
    band,
    file_name,
    first_reading,
    nearest,
    other_settings,
    other_text,
    read_references,
    windows,
)
from receptance.data import prepare
from receptance.training import RunConfig, parse_config


def config(name: str = "made-up", store: str = "", **optimizer: float) -> RunConfig:
    return parse_config(
        {
            "name": name,
            "model": {"n_layer": 1, "n_embd": 16},
            "data": {"store": store, "ctx_len": 16, "batch_size": 4},
            "training": {"steps": 40},
            "optimizer": {"lr": 1e-3, **optimizer},
        },
        "here",
    )


def reference(**changed) -> Reference:
    runs = [
        {
            "store_sha256": "ab",
            "window": 10,
            "first_reading": 25,
            "bits_per_byte": [4.0 + shift, 3.0 + shift, 2.0 + shift, 2.0 + shift],
            "valid_bits_per_byte": [[20, 2.5 + shift], [40, 2.0 + shift]],
        }
        for shift in (-0.1, 0.0, 0.1)
    ]
    made = Reference(
        recipe="made-up",
        text="made-up text",
        config=config(),
        vocab_size=256,
        held_out_names=frozenset(),
        runs=runs,
    )
    return replace(made, **changed)


def test_a_band_is_its_runs_and_their_range_on_either_side():
    found = reference().training()

    assert found.steps == [10, 20, 30, 40]
    assert list(found.mean) == pytest.approx([4, 3, 2, 2])
    assert list(found.low) == pytest.approx([3.7, 2.7, 1.7, 1.7])
    assert list(found.high) == pytest.approx([4.3, 3.3, 2.3, 2.3])
    assert reference().held_out().steps == [20, 40]


def test_a_band_is_not_narrow_where_its_runs_happen_to_meet():
    found = band([1, 2, 3], [[1.0, 1.0, 1.0], [1.2, 1.0, 1.2]])
    assert (found.low[1], found.high[1]) == pytest.approx((0.8, 1.2))

    equal = band([1], [[2.0], [2.0]])
    assert (equal.low[0], equal.high[0]) == pytest.approx((1.94, 2.06))


def test_a_window_is_the_mean_of_its_steps_and_the_last_part_has_none():
    lines = [{"step": step, "bits_per_byte": float(step)} for step in range(1, 12)]
    assert windows(lines, 5) == [(5, 3.0), (10, 8.0)]

    lines[6]["bits_per_byte"] = math.inf
    assert windows(lines, 5)[0] == (5, 3.0)
    assert math.isnan(windows(lines, 5)[1][1])
    assert windows([{"step": 1}], 1) == []


def test_the_seed_the_place_and_the_size_of_the_vocabulary_make_no_other_run():
    same = config("mine", "elsewhere")
    same = replace(same, seed=7, model=replace(same.model, vocab_size=256))
    assert other_settings(reference(), same) == []
    assert other_settings(reference(), config(lr=0.1)) == ["`optimizer.lr` was 0.001, now 0.1"]
    larger = replace(same, model=replace(same.model, vocab_size=512))
    assert other_settings(reference(), larger) == ["`model.vocab_size` was 256, now 512"]


def test_the_reference_of_a_run_is_that_of_its_name_or_else_the_nearest():
    other = reference(recipe="other", config=config("other", lr=0.1))
    both = [reference(), other]
    assert nearest(both, config("other")).recipe == "other"
    assert nearest(both, config("mine", lr=0.1)).recipe == "other"
    assert nearest(both, config("mine")).recipe == "made-up"


def test_a_text_is_known_by_its_hash_or_by_its_held_out_files(tmp_path):
    (tmp_path / "lib" / "json").mkdir(parents=True)
    names = ["a.py", "b.py", "json/c.py", "json/d.py"]
    for name in names:
        (tmp_path / "lib" / name).write_text(f"# {name}\n" * 20)
    files = [tmp_path / "lib" / name for name in names]
    store = prepare(files[:2], "bytes", tmp_path / "store", valid=files[2:])
    run = config(store=str(store.path))
    size = store.vocab_size

    by_hash = reference(runs=[{**reference().runs[0], "store_sha256": "cd"}])
    hashed = replace(run, data=replace(run.data, store="", store_sha256="cd"))
    assert other_text(by_hash, hashed) is None

    by_names = frozenset({"json/c.py", "x.py"})
    assert other_text(reference(vocab_size=size, held_out_names=by_names), run) is None

    others = frozenset({"y.py", "x.py"})
    found = other_text(reference(vocab_size=size, held_out_names=others), run)
    assert found is not None
    assert "is not the reference's: made-up text" in found

    found = other_text(reference(vocab_size=4096), run)
    assert found == f"its tokenizer has {size} ids, not 4,096"

    missing = config(store=str(tmp_path / "gone"))
    assert "cannot be read" in str(other_text(reference(), missing))


def test_losses_are_compared_until_a_text_is_read_again(tmp_path):
    run = config()
    assert first_reading(reference(), run) is None

    of_several = reference(held_out_names=frozenset({"a.py"}))
    hashed = replace(run, data=replace(run.data, store_sha256="ab"))
    assert first_reading(of_several, hashed) == 25

    (tmp_path / "a.py").write_text("x" * 64 * 9)
    (tmp_path / "b.py").write_text("y" * 64)
    store = prepare([tmp_path / "a.py"], "bytes", tmp_path / "store", valid=[tmp_path / "b.py"])
    assert first_reading(of_several, config(store=str(store.path))) == 9
    assert first_reading(of_several, config(store="gone")) == 0


def test_files_of_one_library_have_one_name_in_every_python():
    assert file_name("/usr/lib/python3.11/_pyio.py") == "_pyio.py"
    assert file_name("/opt/lib/python3.13/json/encoder.py") == "json/encoder.py"


def test_the_shipped_references_are_of_their_recipes_as_they_are():
    from receptance.cli.demo import demo_config
    from receptance.training import read_config
    from tests.policy.source_tree import ROOT

    found = {each.recipe: each for each in read_references()}
    assert other_settings(found["demo"], demo_config(REFERENCES)) == []
    recipe = read_config(ROOT / "recipes" / "wikitext2.toml")
    assert other_settings(found["wikitext2"], recipe) == []
    for each in found.values():
        assert len({run["seed"] for run in each.runs}) >= 3
        assert each.training().steps[-1] > each.config.training.steps - each.window
