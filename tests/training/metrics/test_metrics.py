"""The file of figures tells every step once, whenever a run was killed."""

import errno
import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from receptance.errors import DataError
from receptance.training import Metrics, read_metrics
from receptance.training.metrics.metrics import MetricsFile, bits_per_byte


def metrics(step: int, valid: float | None = None) -> Metrics:
    return Metrics(
        step=step,
        tokens=64 * step,
        loss=2.5,
        lr=1e-3,
        grad_norm=0.5,
        tokens_per_s=1000.0,
        flops_per_s=1e9,
        memory_bytes=10**8,
        seconds=0.1 * step,
        valid_bits_per_byte=valid,
    )


@pytest.fixture
def file(tmp_path) -> MetricsFile:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        file.append(metrics(step))
    return file


def steps(file: MetricsFile) -> list[int]:
    return [json.loads(line)["step"] for line in file.path.read_text().splitlines()]


def test_a_step_is_one_json_line_with_what_was_measured(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(metrics(1))
    file.append(metrics(2, valid=1.5))

    first, second = (json.loads(line) for line in file.path.read_text().splitlines())

    assert first == {
        "step": 1, "tokens": 64, "loss": 2.5, "lr": 1e-3, "grad_norm": 0.5,
        "tokens_per_s": 1000.0, "flops_per_s": 1e9, "memory_bytes": 10**8, "seconds": 0.1,
    }  # fmt: skip
    assert second["valid_bits_per_byte"] == 1.5


@pytest.mark.parametrize("step", [0, 1, 3, 5, 9])
def test_the_lines_of_steps_to_be_done_again_go(file, step):
    file.truncate(step)

    assert steps(file) == list(range(1, min(step, 5) + 1))


def test_a_file_that_is_not_there_stays_so(tmp_path):
    MetricsFile(tmp_path / "metrics.jsonl").truncate(3)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", [b'{"step": 6, "tok', b"\0\0\0\0", b"\xff\xfe"])
def test_half_a_last_line_is_dropped(file, end):
    with file.path.open("ab") as stream:
        stream.write(end)

    file.truncate(5)
    file.append(metrics(6))

    assert steps(file) == [1, 2, 3, 4, 5, 6]


def test_a_last_line_that_lacks_only_its_end_is_kept(file):
    file.path.write_bytes(file.path.read_bytes().removesuffix(b"\n"))

    file.truncate(5)
    file.append(metrics(6))

    assert steps(file) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("line", [b"not JSON", b"[1]", b'{"loss": 1}', b'{"step": "a"}'])
def test_a_damaged_line_before_the_last_is_named_and_nothing_is_changed(file, line):
    lines = file.path.read_bytes().splitlines()
    file.path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]) + b"\n")
    before = file.path.read_bytes()

    with pytest.raises(DataError, match=r"metrics\.jsonl', line 3, must be a JSON object with"):
        file.truncate(5)

    assert file.path.read_bytes() == before


def test_what_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(replace(metrics(1), loss=math.nan, grad_norm=math.inf, skipped="the loss is nan"))

    (line,) = file.path.read_text().splitlines()
    (read,) = read_metrics(file.path)

    assert '"loss": null, ' in line
    assert '"grad_norm": null' in line
    assert math.isnan(read["loss"])
    assert math.isnan(read["grad_norm"])
    assert read["skipped"] == "the loss is nan"


def test_the_file_is_read_while_the_run_writes_it(file):
    with file.path.open("ab") as stream:
        stream.write(b'{"step": 6, "tok')

    assert [line["step"] for line in read_metrics(file.path)] == [1, 2, 3, 4, 5]


def test_a_run_without_the_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"must have a file '.*metrics\.jsonl', but there is none"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_where_the_disk_is_full_the_lines_wait(tmp_path, monkeypatch, caplog):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(metrics(1))
    whole = file.path.read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full_after(30))
        file.append(metrics(2))
        file.append(metrics(3))
    assert file.path.read_bytes()[: len(whole)] == whole
    assert len(file.path.read_bytes()) == len(whole) + 30
    file.append(metrics(4))
    file.sync()

    assert steps(file) == [1, 2, 3, 4]
    assert "1 lines wait to be written: [Errno 28] No space left on device" in caplog.text
    assert "2 lines wait" in caplog.text


def test_lines_that_wait_are_tried_again_before_a_checkpoint(tmp_path, monkeypatch):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full_after(0))
        file.append(metrics(1))
    file.sync()

    assert steps(file) == [1]


def test_a_disk_that_cannot_flush_ends_no_run(tmp_path, monkeypatch, caplog):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(metrics(1))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    file.sync()

    assert "metrics.jsonl may lose its last lines: [Errno 5] Input/output error" in caplog.text


def full_after(n_bytes: int):
    """Return an `open` whose files take so many bytes and then no more."""
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data, /):
            super().write(bytes(data)[:n_bytes])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_open(path: Path, mode: str = "r", *args, **options):
        return Full(path, "a") if mode == "ab" else opened(path, mode, *args, **options)

    return full_open


def test_a_byte_is_worth_its_share_of_the_tokens():
    assert bits_per_byte(math.log(2), 1.0) == pytest.approx(1.0)
    assert bits_per_byte(math.log(256), 0.25) == pytest.approx(2.0)


def test_figures_of_sources_are_kept_with_those_that_are_not_finite(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    losses = {"wiki": 2.25, "code": math.nan}
    file.append(replace(metrics(1), loss=math.nan, loss_by_source=losses))

    line = json.loads(file.path.read_text())
    assert line["loss"] is None
    assert line["loss_by_source"] == {"wiki": 2.25, "code": None}
    (read,) = read_metrics(file.path)
    assert read["loss_by_source"]["wiki"] == 2.25
    assert math.isnan(read["loss_by_source"]["code"])
