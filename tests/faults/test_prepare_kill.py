"""Preparing a store is killed, at any place, and gone on with to the same bytes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receptance.data import TokenStore, prepare
from receptance.errors import DataError

TEXTS = [f"def function_{n}(x):\n    return x + {n}  # é {n * n}\n" * 5 for n in range(60)]

KILLED = """
import os, signal, sys
from pathlib import Path
from receptance.data import journal, prepare
module = sys.modules["receptance.data.prepare"]
journal.NOTE_BYTES = 1000
module.BATCH_CHARACTERS = 300
module.WORKER_BYTES = 1
folder, tokenizer, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
module.n_cores = lambda: int(sys.argv[4])

def progress(done, total):
    print(done, total, flush=True)
    if done >= at:
        os.kill(os.getpid(), signal.SIGKILL)

prepare([folder / "texts"], tokenizer, folder / "store", valid_fraction=0.2, progress=progress)
"""


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for index, text in enumerate(TEXTS):
        (folder / f"{index:04}.txt").write_text(text)
    return folder


def prepare_until(
    folder: Path, tokenizer: str, n_bytes: int, n_workers: int = 1
) -> tuple[int, list[int]]:
    """Prepare in a process that kills itself; return its exit code and what was done when."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED, folder, tokenizer, str(n_bytes), str(n_workers)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode in (0, -9), result.stderr
    return result.returncode, [int(line.split()[0]) for line in result.stdout.splitlines()]


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.iterdir())}


def write_pairs(folder: Path) -> Path:
    """Write the same as prompts with answers, of which only the answers count."""
    folder.mkdir()
    pairs = [{"prompt": text[:40], "answer": text[40:]} for text in TEXTS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in pairs))
    return folder


@pytest.mark.parametrize(
    ("tokenizer", "write"), [("bytes", write_texts), ("train:300", write_pairs)]
)
def test_what_was_killed_and_resumed_is_what_was_not_killed(
    tmp_path: Path, tokenizer: str, write: Callable[[Path], Path]
) -> None:
    """Killed again and again, each time a little further, and at last let alone.

    What it is compared with was tokenized by one process, and not by two.
    """
    write(tmp_path / "texts")
    assert prepare_until(tmp_path, tokenizer, 10**9)[0] == 0
    whole = contents(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "whole")

    begins = []
    for at in (500, 1500, 3000, 4500, 10**9):
        code, done = prepare_until(tmp_path, tokenizer, at, n_workers=2)
        begins.append(done[0])
        assert (tmp_path / "store").exists() is (code == 0)
    assert code == 0
    # The second began anew, nothing having been noted; the others where a note was.
    assert begins[0] == begins[1]
    assert begins[1:] == sorted(set(begins[1:]))
    assert begins[-1] > 3000
    assert contents(tmp_path / "store") == whole
    assert ("train.mask" in whole) is (write is write_pairs)
    assert not list(tmp_path.glob(".store*"))
    TokenStore.open(tmp_path / "store").verify()


def test_another_plan_does_not_go_on_and_may_begin_anew(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts")
    assert prepare_until(tmp_path, "bytes", 3000)[0] == -9

    def again(**options: Any) -> TokenStore:
        return prepare([tmp_path / "texts"], "bytes", tmp_path / "store", **options)

    others: list[dict[str, Any]] = [
        {"valid_fraction": 0.3},
        {"valid_fraction": 0.2, "seed": 1},
        {"valid_fraction": 0.2, "separator": "x"},
        {"valid_fraction": 0.2, "document_start": "x"},
    ]
    for options in others:
        with pytest.raises(DataError, match="interrupted, and went by other files, another tokeni"):
            again(**options)
    store = again(valid_fraction=0.3, restart=True)
    store.verify()
    assert store.train.n_bytes + store.valid.n_bytes == sum(len(text.encode()) for text in TEXTS)
    assert not list(tmp_path.glob(".store*"))


def test_a_text_that_changed_meanwhile_is_another_plan(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts")
    assert prepare_until(tmp_path, "bytes", 3000)[0] == -9
    changed = texts / "0050.txt"
    changed.write_text(changed.read_text().replace("return", "retorn"))
    with pytest.raises(DataError, match="went by other files"):
        prepare([texts], "bytes", tmp_path / "store", valid_fraction=0.2)


def test_what_an_interrupted_process_staged_is_no_text_to_prepare(tmp_path: Path) -> None:
    """The store is made inside the folder that is read."""
    write_texts(tmp_path / "texts")
    (tmp_path / "texts").rename(tmp_path / "moved")
    for path in (tmp_path / "moved").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "moved").rmdir()
    script = KILLED.replace('folder / "texts"', "folder")
    command = [sys.executable, "-c", script, str(tmp_path), "bytes"]
    assert (
        subprocess.run([*command, "3000", "1"], check=False, capture_output=True).returncode == -9
    )
    assert (tmp_path / ".store.preparing" / "train.bin").exists()
    assert (
        subprocess.run([*command, "1000000", "1"], check=False, capture_output=True).returncode == 0
    )
    store = TokenStore.open(tmp_path / "store")
    assert sum(source.files for source in store.sources) == len(TEXTS)
