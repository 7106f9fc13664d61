"""Runs functions on several ranks, each a process of its own on this machine."""

import importlib
import json
import os
import select
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 200


class RankProcesses:
    """Some ranks that are there for several tests, since each takes seconds to start."""

    def __init__(self, world_size: int, *, step_timeout_s: float = 60.0) -> None:
        """Start them; they find each other as those that `torchrun` starts do."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": str(world_size), "MASTER_PORT": str(port)} | {
            "MASTER_ADDR": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.training.on_ranks", str(step_timeout_s)],
                cwd=ROOT,
                env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
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
        stdin = self.processes[rank].stdin
        assert stdin is not None
        stdin.write(json.dumps([function, arguments]) + "\n")
        stdin.flush()

    def answer(self, rank: int) -> Any:
        """Return what the function returned on a rank."""
        stdout = self.processes[rank].stdout
        assert stdout is not None
        assert select.select([stdout], [], [], TIMEOUT_S)[0], f"rank {rank} hangs"
        answer = json.loads(stdout.readline() or '{"error": "it died"}')
        assert "error" not in answer, f"rank {rank}: {answer['error']}"
        return answer["result"]

    def kill(self) -> None:
        """End the processes, whatever they do."""
        for process in self.processes:
            process.kill()
            with process:  # closes what it was talked to by
                pass

    def end(self) -> None:
        """End the processes, once they have closed their connections."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        try:
            for process in self.processes:
                process.wait(timeout=60)
        finally:
            self.kill()


def main() -> None:
    """Be one rank: read calls until there are no more."""
    from jaxtyping import install_import_hook

    with install_import_hook("receptance", "beartype.beartype"):
        from receptance.training.processes import connected

        scenarios = importlib.import_module("tests.training.scenarios")
    with connected(step_timeout_s=float(sys.argv[1])) as ranks:
        for line in sys.stdin:
            function, arguments = json.loads(line)
            try:
                answer = {"result": getattr(scenarios, function)(ranks, **arguments)}
            except Exception:  # noqa: BLE001 (the test has to see it, whatever it is)
                answer = {"error": traceback.format_exc()}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
