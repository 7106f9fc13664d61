"""The published losses are points, known by the shape of the model."""

from dataclasses import replace

import pytest

from receptance.cli.published_losses import (
    Point,
    between,
    curve_beside,
    published_losses,
    published_size,
    words_beside,
)
from receptance.data import prepare
from receptance.training import RunConfig, parse_config


def config(**model) -> RunConfig:
    return parse_config(
        {
            "name": "mine",
            "model": model,
            "data": {
                "store": "", "ctx_len": 1024, "batch_size": 128,
                "later_batch_size": 256, "later_batch_step": 113715,
            },
            "training": {"steps": 1323630},
        },
        "here",
    )  # fmt: skip


def test_a_published_size_is_known_by_its_preset_or_its_shape():
    assert published_size(config(preset="430m", vocab_size=50277)) == "430m"
    assert published_size(config(n_layer=12, n_embd=768, vocab_size=50277)) == "169m"
    assert published_size(config(n_layer=12, n_embd=768, vocab_size=4096)) is None
    assert published_size(config(n_layer=5, n_embd=192, vocab_size=50277)) is None


def test_a_run_without_a_vocabulary_of_its_own_has_that_of_its_store(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("one two three " * 9)
    store = prepare([text], "bytes", tmp_path / "store")
    run = config(n_layer=12, n_embd=768)
    assert published_size(run) is None

    run = replace(run, data=replace(run.data, store=str(store.path)))
    assert published_size(run) is None
    monkeypatch.setattr("receptance.cli.published_losses.VOCAB_SIZE", store.vocab_size)
    assert published_size(run) == "169m"


def test_all_six_sizes_end_with_the_loss_of_their_page():
    last = {
        size: published_losses(size)[-1] for size in ("169m", "430m", "1.5b", "3b", "7b", "14b")
    }
    assert [each.loss for each in last.values()] == [2.5355, 2.2621, 2.0415, 1.9469, 1.8415, 1.7579]
    assert all("page" in each.source for each in last.values())
    for size in last:
        losses = [each.loss for each in published_losses(size)]
        assert losses == sorted(losses, reverse=True)


def test_a_run_is_set_beside_the_points_and_not_judged():
    lines = [{"step": 1, "tokens": 31_622_776_602, "loss": 2.7369, "loss_average": 2.7369}]
    words = words_beside("mine", "169m", lines)
    assert "2.5355 nats a token after 332 G tokens: the page" in words[3]
    assert "2.670 there, so the run is 2.5% above it" in words[-2]
    assert words[-1].startswith("  Not judged")
    early = words_beside("mine", "169m", [{"tokens": 1000, "loss": 9.0}])
    assert not any("line between" in line for line in early)


def test_the_line_between_two_points_is_over_the_logarithm_of_tokens():
    points = [Point(10, 3.0, ""), Point(1000, 2.0, "")]
    assert between(points, 100) == pytest.approx(2.5)
    assert between(points, 9) is None
    assert between(points, 1001) is None


def test_points_lie_at_the_step_that_has_read_their_tokens():
    run = config(preset="169m", vocab_size=50277)
    curve = curve_beside("169m", run, "step", 2e6)
    assert curve is not None
    per_step = 128 * 1024
    assert curve.x[0] == 10**10 // per_step
    assert curve.x[1] == 113715 + (10**11 - 113715 * per_step) // (2 * per_step)
    assert curve_beside("169m", run, "step", 100.0) is None
    by_tokens = curve_beside("169m", run, "tokens", 5e10)
    assert by_tokens is not None
    assert list(by_tokens.x) == [1e10]
