"""Files that are damaged or hostile end in one clear error, whatever was done to them.

Of five hundred files of each format, the same ones at every run, each either is a whole model or is
refused by one error that names it. Nothing crashes, hangs, warns, prints, runs what a file tells it
to run, takes more memory than twice the file and a constant, or leaves anything behind. What is
allowed is said in `reading.py`, what is done to the files in `cases.py` and the files of
the formats.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

FORMATS = ("native", "official", "huggingface", "ggml")
FILES = 500
ROOT = Path(__file__).parents[2]


def read_in_a_process(format: str, count: int, folder: Path) -> list[dict[str, Any]]:
    """Return what came of each file; of one that ended the process, only its name."""
    report = folder / "report.jsonl"
    place = folder / "files"
    place.mkdir()
    command = [sys.executable, "-m", "tests.hostile.reading", format, str(count)]
    done = subprocess.run(
        [*command, str(place), str(report)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    entries = [json.loads(line) for line in report.read_text().splitlines()]
    last = entries[-1]
    assert done.returncode == 0, (
        f"{last} ended the process: {done.returncode} {done.stderr[-2000:]}"
    )
    return [entry for entry in entries if "outcome" in entry]


@pytest.fixture(scope="module")
def readings(tmp_path_factory) -> Iterator[dict[str, Future[list[dict[str, Any]]]]]:
    """Reads the files of all formats, as many processes at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            each: pool.submit(read_in_a_process, each, FILES, tmp_path_factory.mktemp(each))
            for each in FORMATS
        }


@pytest.mark.parametrize("format", FORMATS)
def test_a_hostile_file_ends_in_one_clear_error(format, readings):
    outcomes = readings[format].result()

    broken = {each["name"]: each["problems"] for each in outcomes if each["problems"]}
    assert broken == {}
    assert len(outcomes) >= FILES
    loaded = sum(each["outcome"] == "loaded" for each in outcomes)
    assert 10 < loaded < FILES // 2  # bits of numbers that flip make another model, and are few
