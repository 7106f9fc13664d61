"""The file of figures tells every step once, whenever a run was killed."""

import json

import pytest

from receptance.errors import DataError
from receptance.training import Metrics
from receptance.training.metrics import MetricsFile


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
