"""A process with little time and memory, as its owner sees it."""

import contextlib
import json
import select
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

_CHILD = Path(__file__).parent / "child.py"
# The child's timer counts its computing time alone, so that a busy machine refuses nobody. This
# one is for a child that waits, which none has a reason to.
_WALL_SECONDS = 10.0


class ConfinedError(Exception):
    """What was asked for was not done; the message says why, in words for whoever asked."""


class Confined:
    """A child process that does one kind of work, and is begun anew when it dies of it.

    It begins with the first thing to do. One thing is done at a time; who comes meanwhile waits,
    so ask where waiting stops nobody else.
    """

    def __init__(self, job: str, *, seconds: float, megabytes: int) -> None:
        """Say what it does, and by what limits.

        Args:
            job: "grammar" or "template".
            seconds: Computing time for one thing.
            megabytes: Memory, beside what it has when it begins.
        """
        self._command = [sys.executable, "-I", str(_CHILD), job, str(seconds), str(megabytes)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._finalizer = lambda: None

    def ask(self, **question: Any) -> str:
        """Return the answer.

        Args:
            question: What the job takes, as JSON can hold it.

        Raises:
            ConfinedError: If the job failed, or took more time or memory than there is.
        """
        line = json.dumps(question).encode() + b"\n"
        with self._lock:
            answer = self._exchange(line)
        if answer is None:
            raise ConfinedError(_TOO_MUCH)
        said = json.loads(answer)
        if "error" in said:
            raise ConfinedError(said["error"])
        return said["text"]

    def close(self) -> None:
        """End the child; the next question begins another."""
        with self._lock:
            self._end()

    def _exchange(self, line: bytes) -> bytes | None:
        """Return the child's line of answer, None if it died."""
        process = self._process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            is_there, _, _ = select.select([process.stdout], [], [], _WALL_SECONDS)
            answer = process.stdout.readline() if is_there else b""
        except OSError:  # it died while it was being asked
            answer = b""
        if answer.endswith(b"\n"):
            return answer
        self._end()
        return None

    def _begin(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,  # Ctrl-C is for the server
        )
        self._process = process
        self._finalizer = weakref.finalize(self, _end, process)
        return process

    def _end(self) -> None:
        self._finalizer()
        self._process = None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):  # what was not yet written is lost with it
            pipe.close()


_TOO_MUCH = "it took too much time or memory"
