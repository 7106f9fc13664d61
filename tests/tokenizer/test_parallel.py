import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from receptance.errors import TokenizerError
from receptance.tokenizer import (
    Tokenizer,
    WorkerLostError,
    WorldTokenizer,
    encoded,
    n_cores,
    parallel,
)

BATCHES = [(n, [f"the them {n}", "", "é 漢字\n\n" * n]) for n in range(9)]


def children() -> set[int]:
    """Return the processes that this one has started and that are still there."""
    return set(
        map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
    )


needs_proc = pytest.mark.skipif(
    not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists(),
    reason="the system does not list a process's children",
)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_tokens_are_those_of_encode_in_order(
    tokenizer: Tokenizer, tmp_path: Path, n_workers: int
) -> None:
    tokenizer.save(tmp_path)
    found = [
        (item, [array.tolist() for array in arrays])
        for item, arrays in encoded(iter(BATCHES), tokenizer, tmp_path, n_workers)
    ]
    assert found == [(n, [tokenizer.encode(text) for text in texts]) for n, texts in BATCHES]


class OwnTokenizer(WorldTokenizer):
    """No file tells what it does."""

    def encode_batch(self, texts):
        return [[7] for _ in texts]


def test_a_tokenizer_of_another_kind_is_asked_itself(
    world_lines: tuple[str, ...], tmp_path: Path
) -> None:
    own = OwnTokenizer("\n".join(world_lines).encode())
    for _, arrays in encoded(iter(BATCHES), own, tmp_path, 2):
        assert [array.tolist() for array in arrays] == [[7], [7], [7]]


@needs_proc
def test_few_batches_are_read_ahead_and_no_process_is_left(
    small_world: WorldTokenizer, tmp_path: Path
) -> None:
    small_world.save(tmp_path)
    before, taken = children(), []

    def batches() -> Iterator[tuple[int, list[str]]]:
        for n in range(100):
            taken.append(n)
            yield n, ["the"]

    with closing(encoded(batches(), small_world, tmp_path, 2)) as tokens:
        next(tokens)
        assert len(children() - before) == 2
        assert len(taken) == 4
    assert children() == before


@needs_proc
@pytest.mark.parametrize("broken", ["killed", "no tokenizer"])
def test_a_lost_worker_is_an_error_and_takes_the_others_along(
    small_world: WorldTokenizer, tmp_path: Path, broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if broken == "killed":
        small_world.save(tmp_path)
    before = children()

    def batches() -> Iterator[tuple[int, list[str]]]:
        for n in range(100):
            if broken == "killed" and n == 2:
                os.kill(min(children() - before), signal.SIGKILL)
            yield n, ["the"]

    how = "ended with exit code 1, and its error is above; .* so put that right and run"
    if broken == "killed":
        how = "was ended by SIGKILL, perhaps for want of memory; .* run the same .*`taskset -c 0,1`"
    with pytest.raises(WorkerLostError, match=f"go on to the end, but one {how}"):
        list(encoded(batches(), small_world, tmp_path, 2))
    assert children() == before
    # What the process itself says is not hidden.
    assert ("TokenizerError" in capfd.readouterr().err) is (broken == "no tokenizer")


OUTLIVED = """
import os, signal, sys
from pathlib import Path
from receptance.tokenizer import WorldTokenizer, encoded, load_tokenizer

folder = Path(sys.argv[1])

def batches():
    for n in range(1000):
        if n == 8:
            me = os.getpid()
            print(Path(f"/proc/{me}/task/{me}/children").read_text(), flush=True)
            os.kill(me, getattr(signal, sys.argv[2]))
        yield n, ["the"] * 100

for _ in encoded(batches(), load_tokenizer(folder), folder, 2):
    pass
"""


def ends(process: int) -> bool:
    """Tell whether a process that is no child of this one is gone, or soon is."""
    for _ in range(1000):
        status = Path(f"/proc/{process}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    return False


@needs_proc
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_workers_end_with_the_process_that_started_them(
    small_world: WorldTokenizer, tmp_path: Path, name: str
) -> None:
    small_world.save(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", OUTLIVED, str(tmp_path), name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    workers = list(map(int, result.stdout.split()))
    assert len(workers) == 2
    assert all(map(ends, workers))
    assert result.stderr.count("Traceback") == (name == "SIGINT")
    assert result.stderr.rstrip().endswith("KeyboardInterrupt" if name == "SIGINT" else "")


@needs_proc
def test_a_worker_starts_no_threads(
    small_world: WorldTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_world.save(tmp_path)
    for library in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "2")
    before = children()
    with closing(encoded(iter(BATCHES), small_world, tmp_path, 2)) as tokens:
        list(islice(tokens, 5))  # so both have begun
        for each in children() - before:
            assert len(list(Path(f"/proc/{each}/task").iterdir())) == 1


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_lone_surrogate_is_the_same_error_wherever_it_is_met(
    small_world: WorldTokenizer, tmp_path: Path, n_workers: int
) -> None:
    small_world.save(tmp_path)
    with pytest.raises(TokenizerError, match=r"not hold lone surrogates, .* character 2 is"):
        list(encoded([(0, ["the", "a \ud800"])], small_world, tmp_path, n_workers))


def fail_to_start(*_: object, **__: object) -> None:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def fail_to_begin_a_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


@needs_proc
@pytest.mark.parametrize(
    ("name", "failing"),
    [("subprocess.Popen", fail_to_start), ("threading.Thread.start", fail_to_begin_a_thread)],
)
def test_a_worker_that_cannot_be_started_is_a_lost_one(
    small_world: WorldTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    failing: Callable[..., None],
) -> None:
    small_world.save(tmp_path)
    before = children()
    monkeypatch.setattr(name, failing)
    with pytest.raises(WorkerLostError, match=r"one could not \(.*is kept, so run .*taskset"):
        list(encoded(iter(BATCHES), small_world, tmp_path, 2))
    assert children() == before


def test_the_cores_are_those_that_the_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_CGROUPS", tmp_path)
    monkeypatch.setattr(parallel, "_OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert n_cores() == 3
    (tmp_path / "cgroup").write_text("1:cpu:/other\n0::/a.slice/job\n")
    (tmp_path / "a.slice" / "job").mkdir(parents=True)
    (tmp_path / "a.slice" / "job" / "cpu.max").write_text("max 100000\n")
    assert n_cores() == 3
    for quota, expected in ((150_000, 2), (50_000, 1), (800_000, 3)):
        (tmp_path / "a.slice" / "cpu.max").write_text(f"{quota} 100000\n")
        assert n_cores() == expected
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert n_cores() == 1
