"""The figures of a step."""

import json

import pytest
import torch

from receptance.models import RWKV4Config
from receptance.training import (
    ALONE,
    APPLY,
    HeldOut,
    Progress,
    Ranks,
    StepResult,
    Yardsticks,
    plan_step,
)
from receptance.training.step import StepSeconds
from receptance.training.watch import Watch
from tests.training.tiny_run import tiny_config

SHAPE = RWKV4Config(n_layer=2, n_embd=16, vocab_size=256)
RESULT = StepResult(
    loss=2.0,
    loss_by_source={"wiki": 1.5, "code": 3.0},
    grad_norm=0.5,
    verdict=APPLY,
    carried=None,
    seconds=StepSeconds(0.1, 0.2, 0.03, 0.004),
)


def watch_in(folder, yardsticks=Yardsticks(), **settings) -> Watch:  # noqa: B008 - a constant
    config = tiny_config(**settings)
    return Watch(config, folder, SHAPE, ALONE, yardsticks)


def tell(watch: Watch, step: int, **given):
    progress = Progress(step=step, tokens=64 * step, samples=4 * step, seconds=0.5 * step)
    known = {"seconds": 0.5, "data_seconds": 0.01, "loss_average": 2.5, "held_out": None}
    return watch.step(progress, plan_step(tiny_config(), step - 1), RESULT, **known | given)


def test_the_figures_follow_from_what_happened(tmp_path):
    metrics = tell(watch_in(tmp_path, Yardsticks(0.25, 1e9)), 3)

    assert (metrics.step, metrics.tokens, metrics.loss, metrics.loss_average) == (3, 192, 2.0, 2.5)
    assert metrics.bits_per_byte == pytest.approx(2.0 / 0.6931471805599453 * 0.25)
    assert metrics.tokens_per_s == pytest.approx(64 / 0.5)
    assert metrics.flops_per_s == pytest.approx(3 * SHAPE.flops_per_token * 128)
    assert metrics.flops_share == pytest.approx(metrics.flops_per_s / 1e9)
    parts = metrics.data_s, metrics.forward_s, metrics.backward_s, metrics.optimizer_s
    assert parts == (0.01, 0.1, 0.2, 0.03)
    assert metrics.memory_bytes > 10**7


def test_on_a_gpu_the_memory_is_that_of_the_gpu(tmp_path, monkeypatch):
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {device: 12_345}.__getitem__)
    watch = Watch(tiny_config(), tmp_path, SHAPE, Ranks(device=device), Yardsticks(0.25, 1e9))

    assert tell(watch, 1).memory_bytes == 12_345


def test_held_out_figures_are_told_with_those_of_each_source(tmp_path):
    metrics = tell(watch_in(tmp_path), 1, held_out=HeldOut(1.25, {"wiki": 1.0, "code": 2.0}))

    assert metrics.loss_by_source == {"wiki": 1.5, "code": 3.0}
    assert metrics.valid_bits_per_byte == 1.25
    assert metrics.valid_bits_per_byte_by_source == {"wiki": 1.0, "code": 2.0}


def test_what_is_not_known_is_not_told(tmp_path):
    metrics = tell(watch_in(tmp_path), 1)

    assert metrics.bits_per_byte is None
    assert metrics.flops_share is None
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert "bits_per_byte" not in line
    assert "skipped" not in line


def test_what_was_told_between_steps_is_in_the_next_line_once(tmp_path):
    watch = watch_in(tmp_path)
    watch.tell(saved="step-00000001", rolled_back_from=7)
    tell(watch, 1)
    tell(watch, 2)

    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (first["saved"], first["rolled_back_from"]) == ("step-00000001", 7)
    assert "saved" not in second


def test_the_time_left_counts_what_is_done_between_steps(tmp_path):
    watch = watch_in(tmp_path, every_validation_steps=4)
    without = tell(watch, 1).seconds_left
    for _ in range(2):
        with watch.time("validation"):
            torch.ones(200, 200).matmul(torch.ones(200, 200))
    with_validation = tell(watch, 1).seconds_left

    assert without == pytest.approx(11 * 0.5)
    assert with_validation is not None
    assert with_validation > 11 * 0.5


def test_lines_of_later_steps_are_forgotten(tmp_path):
    for step in (1, 2, 3):
        tell(watch_in(tmp_path), step)
    watch_in(tmp_path).begin(1)

    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 1
