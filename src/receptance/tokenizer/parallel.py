"""Tokenizing on all cores, whatever the tokenizer."""

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

_T = TypeVar("_T")


class WorkerLostError(ReceptanceError):
    """A process that tokenizes has ended before its work did."""


def n_cores() -> int:
    """Return how many cores this process may use."""
    # An affinity, as `taskset` and Slurm set it, is known on Linux alone.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


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
        return self._threads.submit(self._encode, texts)

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
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # There is a process for each core; so the library is to start no threads.
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
            # Ctrl-C goes to the group of processes that is in front.
            process_group=0,
        )

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
    how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    memory = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return (
        f"the processes that tokenize must go on to the end, but one was ended {how}{memory}; what "
        "was written is kept, so run the same again to go on"
    )
