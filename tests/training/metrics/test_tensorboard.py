"""TensorBoard shows each step once, whenever the run was killed or went back."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from receptance.errors import ReceptanceError
from receptance.training import Metrics, TensorBoardMirror
from receptance.training.metrics.tensorboard import BY_SOURCE, GROUPS, TEXTS

EVERYTHING = Metrics(
    step=1, tokens=64, loss=2.5, loss_average=2.6, bits_per_byte=0.9, valid_bits_per_byte=1.0,
    lr=1e-3, grad_norm=0.5, tokens_per_s=1000.0, flops_per_s=1e9, flops_share=0.6, data_s=0.1,
    forward_s=0.2, backward_s=0.4, optimizer_s=0.1, communication_s=0.0, memory_bytes=10**8,
    seconds=0.1, seconds_left=9.0, loss_by_source={"wiki": 2.25, "a b": 3.0},
    valid_bits_per_byte_by_source={"wiki": 1.25},
)  # fmt: skip


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard reads from a folder: for each name its steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(each.step, each.value) for each in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def write(folder: Path, steps: range, loss: float) -> None:
    mirror = TensorBoardMirror(folder)
    for step in steps:
        mirror.append(replace(EVERYTHING, step=step, loss=loss))
    mirror.close()


def test_every_figure_has_its_name(tmp_path):
    write(tmp_path, range(1, 3), 2.5)

    found = shown(tmp_path)
    of_sources = {"loss_by_source/wiki", "loss_by_source/a b", "bits_per_byte_by_source/wiki"}
    assert found.keys() == set(GROUPS.values()) | of_sources
    assert found["loss_by_source/wiki"] == [(1, 2.25), (2, 2.25)]
    assert found["loss/step"] == [(1, 2.5), (2, 2.5)]
    assert found["optimizer/lr"] == [(1, pytest.approx(1e-3)), (2, pytest.approx(1e-3))]


def test_every_number_of_the_metrics_is_shown_or_left_out_on_purpose():
    fields = set(Metrics.__dataclass_fields__)

    shown_fields = set(GROUPS) | set(BY_SOURCE) | set(TEXTS)
    assert shown_fields <= fields
    assert fields - shown_fields == {"step", "seconds", "rolled_back_from", "saved"}


def test_a_resumed_run_shows_each_step_once(tmp_path):
    write(tmp_path, range(1, 9), 3.0)
    write(tmp_path, range(6, 11), 2.0)

    assert shown(tmp_path)["loss/step"] == [
        *((step, 3.0) for step in range(1, 6)),
        *((step, 2.0) for step in range(6, 11)),
    ]


def test_a_killed_run_has_lost_nothing(tmp_path):
    mirror = TensorBoardMirror(tmp_path)
    mirror.append(EVERYTHING)

    assert shown(tmp_path)["loss/step"] == [(1, 2.5)]  # though nobody closed it
    mirror.close()


def test_a_run_that_went_back_shows_each_step_once(tmp_path):
    mirror = TensorBoardMirror(tmp_path)
    for step, loss in ((1, 3.0), (2, 3.0), (3, 9.0), (4, 9.0), (3, 2.0), (4, 2.0)):
        mirror.append(replace(EVERYTHING, step=step, loss=loss))
    mirror.close()

    assert shown(tmp_path)["loss/step"] == [(1, 3.0), (2, 3.0), (3, 2.0), (4, 2.0)]


def test_what_was_not_measured_is_not_shown_and_a_skip_is(tmp_path):
    mirror = TensorBoardMirror(tmp_path)
    bare = replace(EVERYTHING, loss=math.nan, valid_bits_per_byte=None, skipped="the loss is nan")
    mirror.append(bare)
    mirror.close()

    found = shown(tmp_path)
    assert "bits_per_byte/held_out" not in found
    assert "loss/step" not in found
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"events/skipped" in written
    assert b"the loss is nan" in written


def test_before_the_first_step_nothing_is_written(tmp_path):
    TensorBoardMirror(tmp_path / "tensorboard").close()

    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ReceptanceError, match=r"`pip install 'receptance\[log\]'`, or train with"):
        TensorBoardMirror(tmp_path)
