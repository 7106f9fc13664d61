"""Runs `receptance` many times, each in a fork of a process that has imported it once.

A request is a line of JSON on the standard input, its answer one on the standard output. The fork
does all that the command does, in a folder of its own, until it ends, is killed from outside after
a time, or meets the fault that the preloaded library (`inject.cpp`) was told of.
"""

import contextlib
import ctypes
import io
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy.fft  # noqa: F401 (what takes its time to import is imported before the forks)
import torch
import torch._dynamo

import receptance.cli.train  # noqa: F401
from receptance.cli import main, training_run

POLL_S = 0.002


def run_fork(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command in a fork and return how it ended: its exit code, or minus the signal."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run_command(request)
    kill_at = started + (request["kill_after_s"] or float("inf"))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {
                "code": os.waitstatus_to_exitcode(status),
                "seconds": time.monotonic() - started,
            }
        if time.monotonic() > kill_at:
            os.kill(child, signal.SIGKILL)
            kill_at = float("inf")
        time.sleep(POLL_S)


def run_command(request: dict[str, Any]) -> None:
    """Be the command, and never return."""
    place = Path(request["place"])
    os.chdir(place)
    told = os.open(place / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(told, stream)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0), write_through=True)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0), write_through=True)
    sys.argv = ["receptance", *request["args"]]
    code = 1
    try:
        arm(request)
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 (what it was is told, and the fork must end here)
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            os._exit(code)


def arm(request: dict[str, Any]) -> None:
    """Tell the library what is to happen, and to list the calls that it counts."""
    fault = request["fault"]
    if fault is None:
        return
    place = Path(request["place"])
    log = os.open(place / "calls", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    library = ctypes.CDLL(None)
    library.faults_arm.argtypes = [
        ctypes.c_char_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int,
        ctypes.c_int,
    ]
    folder = os.fsencode(place / fault["under"])
    library.faults_arm(folder, fault["at"], fault["count"], fault["errno"], log)
    if fault["journal"]:
        library.faults_journal(os.open(place / "journal", os.O_WRONLY | os.O_CREAT))


def serve() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    # To measure it takes a second, and no number of a run depends on it.
    training_run.peak_flops_per_s = lambda *_, **__: 1e11
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        answers.write(json.dumps(run_fork(json.loads(line))) + "\n")


if __name__ == "__main__":
    serve()
