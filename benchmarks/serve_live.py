"""A server that runs in this process, its client, which does not, and what both leave behind."""

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from receptance.benchmark import resident_bytes
from receptance.inference import LanguageModel
from receptance.serving.app import ServerApp, create_app
from receptance.serving.server import Server
from receptance.serving.settings import Settings

CLIENT = Path(__file__).with_name("serve_client.py")


class Live(NamedTuple):
    """A server that runs in this process, and its client, which does not."""

    app: ServerApp
    loop: asyncio.AbstractEventLoop
    clock: int
    """Of the time that the loop's thread was on a core."""
    client: "subprocess.Popen[str]"

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let the client do something."""
        assert self.client.stdin is not None
        assert self.client.stdout is not None
        print(json.dumps({"do": do, **arguments}), file=self.client.stdin, flush=True)
        return json.loads(self.client.stdout.readline())

    def loop_cpu_s(self) -> float:
        """Return how long the loop's thread was on a core."""
        return time.clock_gettime(self.clock)

    def open_things(self) -> dict[str, int]:
        """Return how many there are of what a request takes."""
        return {
            "texts": self.app.room.n_running + self.app.room.n_waiting,
            "tasks": len(asyncio.all_tasks(self.loop)),
            "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        }


@contextmanager
def serving(lm: LanguageModel, settings: Settings) -> Iterator[Live]:
    """Run a server on a thread, and start its client."""
    addresses: Queue[tuple[str, asyncio.AbstractEventLoop]] = Queue()
    app = create_app(lm, settings)
    server = Server(
        app,
        app.room,
        settings,
        on_ready=lambda address: addresses.put((address, asyncio.get_running_loop())),
    )
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    address, loop = addresses.get(timeout=60)
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    command = [sys.executable, str(CLIENT), address.rpartition(":")[2]]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Live(app, loop, clock, client)
    finally:
        client.kill()
        client.wait()
        server.stop()
        thread.join()


class MemoryLog:
    """What this process held beside remembered prompts, ten times a second."""

    def __init__(self, remembered_bytes: Callable[[], float]) -> None:
        """Begin with nothing.

        Args:
            remembered_bytes: What remembered prompts take, which grows to a limit of its own.
        """
        self._remembered_bytes = remembered_bytes
        self._bytes: list[float] = []

    def __str__(self) -> str:
        return f"{self._bytes[0] / 1e6:,.1f} MB at first, at most {max(self._bytes) / 1e6:,.1f}"

    @property
    def growth(self) -> float:
        """The last quarter's mean over the second quarter's, less 1."""
        n = max(1, len(self._bytes) // 4)
        return statistics.mean(self._bytes[-n:]) / statistics.mean(self._bytes[n : 2 * n]) - 1

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Look at the memory until the end."""
        ending = threading.Event()

        def look() -> None:
            while not ending.wait(0.1):
                self._bytes.append((resident_bytes() or 0) - self._remembered_bytes())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
