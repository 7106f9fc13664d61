"""A client of the server in a process of its own, told by lines of JSON what to do.

    python benchmarks/serve_client.py PORT

`bench_serve.py` starts it, as it is on the server's cores. It knows of HTTP what it needs, and
reads each event of a stream as any client does.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from typing import Any

HOST = "127.0.0.1"
LATE_S = 60.0
"""How long a slow connection may stay open before that is taken for ever."""
DRIP_S = 0.5
"""Between two bytes of a slow one."""


@dataclass
class Answer:
    """What came of one request; times are those of `time.perf_counter`."""

    began: float = field(default_factory=time.perf_counter)
    status: int = 0
    """Of HTTP; 0 if the connection broke."""
    first: float | None = None
    """When the first text came."""
    ended: float = 0.0
    text: str = ""
    n_events: int = 0
    """With text."""
    n_tokens: int = 0
    cached_tokens: int = 0

    def take(self, event: bytes) -> None:
        """Read an event of a stream."""
        if event == b"data: [DONE]" or not event.startswith(b"data: "):
            return
        data = json.loads(event[6:])
        for choice in data["choices"]:
            if choice["text"]:
                self.text += choice["text"]
                self.n_events += 1
                self.first = self.first or time.perf_counter()
        if usage := data.get("usage"):
            self.n_tokens = usage["completion_tokens"]
            self.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]


class Client:
    """Sends requests to a port, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        """Take the port of a server on this machine."""
        self._port = port
        self._random = random.Random(0)

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says, and return what came of it.

        Args:
            command: The name of a method, as `do`, and its arguments.
        """
        does: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "at_once": self.at_once,
            "in_turn": self.in_turn,
            "flood": self.flood,
            "beside_slow": self.beside_slow,
            "abort": self.abort,
        }
        return await does[command.pop("do")](**command)

    async def at_once(self, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        """Send requests together, and read all answers; with the time that took of the cores."""
        began_s = time.process_time()
        answers = await asyncio.gather(*map(self._ask, bodies))
        cpu_s = time.process_time() - began_s
        return {"cpu_s": cpu_s, "answers": [asdict(each) for each in answers]}

    async def in_turn(
        self, bodies: list[dict[str, Any]], n_clients: int, seconds: float
    ) -> dict[str, Any]:
        """Let so many clients ask for so long, each again when it has its answer."""
        began, answers, next_body = time.perf_counter(), list[Answer](), cycle(bodies)

        async def one_client() -> None:
            while time.perf_counter() < began + seconds:
                answers.append(await self._ask(next(next_body)))

        await asyncio.gather(*(one_client() for _ in range(n_clients)))
        return {"began": began, "answers": _bare(answers)}

    async def flood(
        self, bodies: list[dict[str, Any]], per_s: float, seconds: float
    ) -> dict[str, Any]:
        """Send so many requests a second for so long, whatever becomes of them."""
        began, next_body = time.perf_counter(), cycle(bodies)
        tasks: list[asyncio.Task[Answer]] = []
        for number in count():
            due = began + number / per_s
            if due > began + seconds:
                break
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(asyncio.create_task(self._ask(next(next_body))))
        answers = await asyncio.gather(*tasks)
        return {"began": began, "answers": _bare(answers)}

    async def beside_slow(
        self, bodies: list[dict[str, Any]], n_clients: int, seconds: float, n_slow: int
    ) -> dict[str, Any]:
        """Let clients ask in turn while so many slow connections are open all the time.

        They are of three kinds: silent, a header byte by byte, and a body byte by byte. The answer
        has the seconds for which the server bore the longest of each.
        """
        longest: dict[str, float] = {}
        ending = asyncio.Event()
        kinds = cycle(("silent", "header", "body"))
        slow = [
            asyncio.create_task(self._slow(kind, longest, ending))
            for kind, _ in zip(kinds, range(n_slow), strict=False)
        ]
        await asyncio.sleep(DRIP_S)
        found = await self.in_turn(bodies, n_clients, seconds)
        ending.set()
        await asyncio.gather(*slow)
        return {**found, "longest": longest}

    async def abort(
        self, bodies: list[dict[str, Any]], n: int, n_clients: int, within_s: float
    ) -> dict[str, Any]:
        """Send `n` requests and leave each at a random moment within some seconds."""
        statuses: list[int] = []
        next_body = cycle(bodies)

        async def one_client() -> None:
            while len(statuses) < n:
                answer = Answer()
                statuses.append(0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(within_s * self._random.random()):
                        await self._ask(next(next_body), answer)

        await asyncio.gather(*(one_client() for _ in range(n_clients)))
        return {"n": len(statuses)}

    async def _slow(self, kind: str, longest: dict[str, float], ending: asyncio.Event) -> None:
        """Open a slow connection, and another when the server closes it."""
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
        said = {"silent": b"", "header": head, "body": head + b"\r\ncontent-length: 999\r\n\r\n{"}
        while not ending.is_set():
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection(HOST, self._port)
            writer.write(said[kind])
            dripping = asyncio.create_task(_drip(writer)) if said[kind] else None
            with suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(reader.read(), LATE_S)
            longest[kind] = max(longest.get(kind, 0.0), time.perf_counter() - began)
            if dripping is not None:
                dripping.cancel()
            writer.transport.abort()

    async def _ask(self, body: dict[str, Any], answer: Answer | None = None) -> Answer:
        """Send a request for a completion and read its answer."""
        answer = answer or Answer()
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            writer.write(_HEAD % len(content) + content)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer.status = int(head.split(b" ", 2)[1])
            if b"transfer-encoding: chunked" in head:
                async for event in _events(reader):
                    answer.take(event)
            else:
                await reader.read()
        except (ConnectionError, EOFError):
            answer.status = 0
        finally:
            answer.ended = time.perf_counter()
            writer.transport.abort()
        return answer


_HEAD = (
    b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the events of a body in chunks."""
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *events, rest = rest.split(b"\n\n")
        for event in events:
            yield event


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.transport.is_closing():
        await asyncio.sleep(DRIP_S)
        writer.write(b"x")


def _bare(answers: list[Answer]) -> list[dict[str, Any]]:
    """Return answers without their texts."""
    return [{**asdict(each), "text": ""} for each in answers]


def _commands() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Do the commands that come, and answer each with a line."""
    client = Client(int(sys.argv[1]))
    for command in _commands():
        print(json.dumps(asyncio.run(client.do(command))), flush=True)


if __name__ == "__main__":
    main()
