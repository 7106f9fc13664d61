"""Tokenizing on all cores, whatever the tokenizer."""

import math
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from receptance.errors import ReceptanceError
from receptance.tokenizer.bpe import BPETokenizer
from receptance.tokenizer.protocol import Tokenizer
from receptance.tokenizer.worker import TokenArray, read_tokens, token_arrays, write_texts
from receptance.tokenizer.world import WorldTokenizer

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]\n"
    "from receptance.tokenizer.worker import main; main(sys.argv[1])"
)

# There is a process for each core, so no library is to start threads in it.
_ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false"} | dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)

_FEWER = "if need be on fewer cores: `taskset -c 0,1` before the command allows two"

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")

_T = TypeVar("_T")


class WorkerLostError(ReceptanceError):
    """A process that tokenizes has ended before its work did, or could not be started."""


def n_cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    # An affinity, as `taskset` and Slurm set it, and a quota, as containers have.
    return min([len(os.sched_getaffinity(0)), *_quotas()])


def _quotas() -> Generator[int, None, None]:
    """Yield how many cores' time each group that holds this process may use, where it is limited.

    In a container the first group is the root, and the file lies there.
    """
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = _CGROUPS / own
    for each in (group, *group.parents):
        if not each.is_relative_to(_CGROUPS):
            break
        with suppress(OSError, ValueError):
            quota, period = (each / "cpu.max").read_text().split()
            # Without a limit the first is the word "max", and no number.
            yield max(1, math.ceil(int(quota) / int(period)))


def encoded(
    batches: Iterable[tuple[_T, Sequence[str]]], tokenizer: Tokenizer, folder: Path, n_workers: int
) -> Generator[tuple[_T, list[TokenArray]], None, None]:
    """Yield the tokens of each batch of texts, in order, the same for any number of workers.

    Each worker is a process, since one process runs Python on one core. Few batches are read ahead.
    A signal from the keyboard does not reach the workers, and they end with this process, however
    that ends.

    Args:
        batches: Each with whatever is to be yielded with its tokens.
        tokenizer: Makes the tokens.
        folder: Where `tokenizer.save` has written it.
        n_workers: How many processes to start. With 1 this one does the work, and so it does with
            a tokenizer that is not made from a file alone, or is as fast as a pipe.

    Raises:
        WorkerLostError: If a worker is killed, or cannot be started.
        TokenizerError: If a text holds a lone surrogate.
    """
    if n_workers == 1 or type(tokenizer) not in (BPETokenizer, WorldTokenizer):
        for item, texts in batches:
            yield item, token_arrays(tokenizer, texts)
        return
    with _Workers(folder, n_workers) as workers:
        waiting: deque[tuple[_T, Future[list[TokenArray]]]] = deque()
        for item, texts in batches:
            waiting.append((item, workers.submit(texts)))
            if len(waiting) > n_workers + 1:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


class _Workers:
    """Some processes, each with a thread of this one that feeds it."""

    def __init__(self, folder: Path, n_workers: int) -> None:
        self._threads = ThreadPoolExecutor(n_workers)
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._all: list[_Worker] = []
        try:
            for _ in range(n_workers):
                self._all.append(_Worker(folder))
                self._idle.put(self._all[-1])
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        # The threads wait for the processes, so these end first.
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._all:
            worker.kill()
        self._threads.shutdown()
        for worker in self._all:
            worker.close()

    def submit(self, texts: Sequence[str]) -> Future[list[TokenArray]]:
        try:
            return self._threads.submit(self._encode, texts)
        except RuntimeError as error:  # the system gives no more threads
            raise WorkerLostError(_not_started(error)) from error

    def _encode(self, texts: Sequence[str]) -> list[TokenArray]:
        worker = self._idle.get()
        try:
            return worker.encode(texts)
        finally:
            # A lost one too: whoever takes it next must not wait for it.
            self._idle.put(worker)


class _Worker:
    """One process of `receptance.tokenizer.worker`."""

    def __init__(self, folder: Path) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(folder), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | _ONE_THREAD,
                # Ctrl-C goes to the group of processes that is in front.
                process_group=0,
            )
        except OSError as error:
            raise WorkerLostError(_not_started(error)) from error

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_texts(self._process.stdin, texts)
            tokens = read_tokens(self._process.stdout)
        except (BrokenPipeError, EOFError):
            tokens = None
        if tokens is None:
            raise WorkerLostError(_loss(self._process.wait()))
        return tokens

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            # What a lost process did not take is still to be written.
            with suppress(BrokenPipeError):
                pipe.close()


def _loss(code: int) -> str:
    """Return the message for a process that ended with an exit code, or by a signal: below 0."""
    if code >= 0:
        how = f"ended with exit code {code}, and its error is above"
        remedy = "put that right and run the same again to go on"
    else:
        how, remedy = f"was ended by {signal.Signals(-code).name}", "run the same again to go on"
    if -code == signal.SIGKILL:
        how, remedy = f"{how}, perhaps for want of memory", f"{remedy}, {_FEWER}"
    return (
        f"the processes that tokenize must go on to the end, but one {how}; what was written is "
        f"kept, so {remedy}"
    )


def _not_started(error: Exception) -> str:
    return (
        f"a process for each core must be started to tokenize, but one could not ({error}); what "
        f"was written is kept, so run the same again to go on, {_FEWER}"
    )
