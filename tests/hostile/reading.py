"""A process that opens hostile files one after another, and tells of each that broke a law.

It is a process of its own, so that a crash is seen, a hang ends, and memory can be measured. To be
run as a module with a format, how many cases, an empty folder, and the file that it writes to.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

import torch

from receptance.checkpoint import describe, load_checkpoint
from receptance.errors import ReceptanceError
from receptance.models import RWKV4
from tests.hostile.cases import Case

DEADLINE_S = 30.0
"""For one file; a machine that is shared has slow seconds, a hang has no end."""
SPARE_BYTES = 24 << 20
"""What opening a file may take beside twice its bytes."""
MOST_BYTES = 6 << 30
"""Where the process would end rather than take the machine with it."""
MOST_CHARACTERS = 1500
"""Of a message that a person can read."""


def main(format: str, count: int, folder: Path, report: Path) -> None:
    """Open `count` cases of a format; write a line of JSON before and after each."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    module = importlib.import_module(f"tests.hostile.{format}")
    used = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
    temporary = folder / "temporary"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    os.environ["TMPDIR"] = str(temporary)
    with report.open("w", encoding="utf-8") as lines:
        # What is not damaged comes first: it must load, and takes what is taken once.
        for index, case in enumerate([*module.whole(), *module.cases(count)]):
            place = folder / str(index)
            place.mkdir()
            _say(lines, begun=case.name)
            began = time.perf_counter()
            outcome, problems = _opened(case, place)
            seconds = time.perf_counter() - began
            if any(temporary.iterdir()):
                problems.append("it left a temporary file")
            _say(lines, name=case.name, outcome=outcome, problems=problems, seconds=seconds)
            shutil.rmtree(place)
            if case.is_whole:
                gc.freeze()  # what has been imported is not looked through after each file


def _say(lines: IO[str], **entry: object) -> None:
    lines.write(json.dumps(entry) + "\n")
    lines.flush()


def _opened(case: Case, place: Path) -> tuple[str, list[str]]:
    """Open a case; return what came of it, and which laws were broken."""
    canary = place / "executed"
    os.environ["CANARY"] = str(canary)
    os.chdir(place)
    target = case.lay(place)
    names = _names(place)
    size = sum(each.stat().st_blocks * 512 for each in place.rglob("*") if each.is_file())
    gc.collect()
    held = _open_files()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    with _output(place.parent / "output") as output:
        signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)  # its signal ends the process
        outcome, problems = _outcome(case, target)
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = _status("VmHWM") - before
    if grown > 2 * size + SPARE_BYTES:
        problems.append(f"it took {grown >> 20} MiB for a file of {size >> 10} KiB")
    if output.stat().st_size:
        problems.append(f"it wrote {output.read_text(errors='replace')[:300]!r}")
    if canary.exists():
        problems.append("it ran what the file told it to run")
    if _names(place) != names:
        problems.append(f"it left {sorted(_names(place) - names)}")
    gc.collect()
    if _open_files() != held:
        problems.append("it left a file open")
    return outcome, problems


def _outcome(case: Case, target: Path) -> tuple[str, list[str]]:
    """Return what came of opening a file, and what is wrong with that."""
    try:
        model = load_checkpoint(target).model
    except ReceptanceError as error:
        problems = [*_objections(error, target), *_inspected(target, None)]
        return str(error), [*problems, *(["it must load"] if case.is_whole else [])]
    except OSError as error:
        names_it = Path(str(error.filename)).is_relative_to(target)
        return str(error), [] if names_it else ["it names no file"]
    except BaseException as error:  # noqa: BLE001 (what else comes is the finding)
        return "raised", [f"it raised {type(error).__name__}: {str(error)[:300]!r}"]
    floats = [each.float() for each in model.state_dict().values() if each.is_floating_point()]
    problems = [] if all(bool(each.isfinite().all()) for each in floats) else ["it is not finite"]
    if not (case.may_load or case.is_whole):
        problems.append("it loaded")
    return "loaded", [*problems, *_inspected(target, model)]


def _inspected(target: Path, model: RWKV4 | None) -> Iterator[str]:
    """Yield what is wrong with the description of a file, of which loading gave a model or none."""
    try:
        description = describe(target)
    except ReceptanceError as error:
        yield from _objections(error, target)
        if model is not None:
            yield f"it loads, but its description does not: {error}"
        return
    except BaseException as error:  # noqa: BLE001
        yield f"its description raised {type(error).__name__}: {str(error)[:300]!r}"
        return
    json.dumps(asdict(description), allow_nan=False)
    fingerprint = None if model is None else model.fingerprint()
    if description.fingerprint != fingerprint and (model is not None or not description.problems):
        yield f"its fingerprint is {description.fingerprint}: {description.problems}"


def _objections(error: ReceptanceError, target: Path) -> Iterator[str]:
    """Yield what is wrong with a message."""
    message = str(error)
    if target.name not in message:
        yield f"the message does not name the file: {message!r}"
    if not message.isprintable():
        yield f"the message acts on a terminal: {message!r}"
    if len(message) > MOST_CHARACTERS:
        yield f"the message has {len(message)} characters: {message[:200]!r}"


@contextlib.contextmanager
def _output(path: Path) -> Iterator[Path]:
    """Send what is written to stdout and stderr to a file, by whoever writes it."""
    saved = [os.dup(number) for number in (1, 2)]
    with path.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield path
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, each in zip((1, 2), saved, strict=True):
                os.dup2(each, number)
                os.close(each)


def _names(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*")}


def _open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def _status(name: str) -> int:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
