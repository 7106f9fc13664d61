"""Runs functions on several ranks, each a process of its own on this machine.

A rank takes seconds to import what it runs, so that all are forks of one process that has.
"""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 200
DEVICE = "DEVICE_OF_RANKS"


class Nursery:
    """The process whose forks are the ranks."""

    def __init__(self) -> None:
        """Start it; it listens as soon as it has imported everything."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.training.on_ranks", str(theirs.fileno())],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
            )

    def fork(self, environment: dict[str, str], step_timeout_s: float) -> "RankProcess":
        """Return a new rank that has further variables in its environment."""
        mine, theirs = socket.socketpair()
        request = json.dumps([environment, step_timeout_s]).encode()
        with theirs:
            socket.send_fds(self._socket, [request], [theirs.fileno()])
            assert select.select([self._socket], [], [], TIMEOUT_S)[0], "no rank can be started"
            return RankProcess(int(self._socket.recv(64)), mine)

    def end(self) -> None:
        """End it, once its ranks have ended."""
        self._socket.close()
        self._process.wait(timeout=TIMEOUT_S)


class RankProcess:
    """One rank, and the line to it."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        """Take its number as a process, and this end of the line."""
        self.pid = pid
        self._socket = line
        self._lines = line.makefile("rw")

    def tell(self, request: Any) -> None:
        """Say something to it."""
        self._lines.write(json.dumps(request) + "\n")
        self._lines.flush()

    def answer(self) -> dict[str, Any]:
        """Return what it says."""
        assert select.select([self._socket], [], [], TIMEOUT_S)[0], f"process {self.pid} hangs"
        return json.loads(self._lines.readline() or '{"error": "it died"}')

    def end(self) -> None:
        """Say that nothing more comes."""
        self._socket.shutdown(socket.SHUT_WR)

    def wait(self, timeout: float) -> None:
        """Wait until it has ended, which closes its end of the line."""
        if not select.select([self._socket], [], [], timeout)[0] or self._socket.recv(1):
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"process {self.pid} does not end")

    def close(self) -> None:
        """Close the line."""
        self._lines.close()
        self._socket.close()


class RankProcesses:
    """Some ranks that are there for several tests."""

    def __init__(
        self,
        nursery: Nursery,
        world_size: int,
        *,
        step_timeout_s: float = 60.0,
        device: str = "cpu",
    ) -> None:
        """Start them on a kind of device; they find each other as those of `torchrun` do."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": str(world_size), "MASTER_PORT": str(port)} | {
            "MASTER_ADDR": "127.0.0.1",
            DEVICE: device,
        }
        self.processes = [
            nursery.fork(common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, step_timeout_s)
            for rank in range(world_size)
        ]

    def run(self, function: str, **arguments: Any) -> list[Any]:
        """Return what `function` of `scenarios.py` returns on each rank.

        Args:
            function: Its name; it takes the `Ranks` first.
            arguments: What else it takes, by name. All that goes in and out is JSON.
        """
        for rank in range(len(self.processes)):
            self.tell(rank, function, **arguments)
        return [self.answer(rank) for rank in range(len(self.processes))]

    def tell(self, rank: int, function: str, **arguments: Any) -> None:
        """Let one rank begin with `function`."""
        self.processes[rank].tell([function, arguments])

    def answer(self, rank: int) -> Any:
        """Return what the function returned on a rank."""
        answer = self.processes[rank].answer()
        assert "error" not in answer, f"rank {rank}: {answer['error']}"
        return answer["result"]

    def kill(self) -> None:
        """End the processes, whatever they do."""
        for process in self.processes:
            os.kill(process.pid, signal.SIGKILL)
            process.close()

    def end(self) -> None:
        """End the processes, once they have closed their connections."""
        for process in self.processes:
            process.end()
        for process in self.processes:
            process.wait(timeout=60)
            process.close()


def main() -> None:
    """Be the nursery: fork a rank for each request, until there are no more."""
    from jaxtyping import install_import_hook

    from tests.kernel_finder import leave_kernels_alone

    leave_kernels_alone()
    # Where there is a GPU, what checks shapes need not be installed: `make gpu PYTHON=python3`.
    is_checking = find_spec("beartype") is not None
    hook = install_import_hook("receptance", "beartype.beartype") if is_checking else nullcontext()
    with hook:
        importlib.import_module("tests.training.scenarios")
    # What the first step of a rank would import.
    importlib.import_module("torch._dynamo")
    importlib.import_module("torch.distributed.fsdp")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a rank that ended leaves nothing
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        while True:
            request, files, _, _ = socket.recv_fds(requests, 4096, 1)
            if not request:
                return
            child = os.fork()
            if child == 0:
                requests.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                be_rank(socket.socket(fileno=files[0]), *json.loads(request))
            os.close(files[0])
            requests.send(str(child).encode())


def be_rank(line: socket.socket, environment: dict[str, str], step_timeout_s: float) -> NoReturn:
    """Be one rank: answer calls until there are no more."""
    code = 1
    try:
        os.environ.update(environment)
        answer_calls(line, step_timeout_s)
        code = 0
    except BaseException:  # noqa: BLE001 (what it was is told, and the fork must end here)
        traceback.print_exc()
    finally:
        os._exit(code)


def answer_calls(line: socket.socket, step_timeout_s: float) -> None:
    """Do what is asked for, among the other ranks."""
    from receptance.training.processes import connected
    from tests.training import scenarios

    joined = connected(os.environ[DEVICE], step_timeout_s=step_timeout_s)
    with line.makefile("rw") as lines, joined as ranks:
        for each in lines:
            function, arguments = json.loads(each)
            try:
                answer = {"result": getattr(scenarios, function)(ranks, **arguments)}
            except Exception:  # noqa: BLE001 (the test has to see it, whatever it is)
                answer = {"error": traceback.format_exc()}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


if __name__ == "__main__":
    main()
