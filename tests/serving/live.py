"""A server on a thread, and what is sent to it byte by byte."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue

from starlette.types import ASGIApp

from receptance.serving.server import Room, Server
from receptance.serving.settings import Settings


@dataclass
class Live:
    """A server that runs."""

    server: Server
    address: str
    thread: threading.Thread

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def wait(self) -> None:
        """Return when the server has ended by itself."""
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, text: str) -> bytes:
        """Send a request's bytes and return all that comes until the server closes."""
        with self.connect() as client:
            client.sendall(text.encode("latin-1"))
            return until_closed(client)


def until_closed(client: socket.socket) -> bytes:
    """Return all that the server sends until it closes the connection."""
    received = b""
    while True:
        try:
            chunk = client.recv(65536)
        except ConnectionResetError:
            return received
        if not chunk:
            return received
        received += chunk


def read_answer(client: socket.socket) -> bytes:
    """Return one answer of a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(client)
    header, _, body = received.partition(b"\r\n\r\n")
    length = int(header.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r")[0])
    while len(body) < length:
        body += _some(client)
    return header + b"\r\n\r\n" + body


def _some(client: socket.socket) -> bytes:
    chunk = client.recv(65536)
    if not chunk:
        raise ConnectionError
    return chunk


@contextmanager
def live(app: ASGIApp, settings: Settings, room: Room | None = None) -> Iterator[Live]:
    """Run a server on a thread, at a free port unless it has a socket file."""
    addresses: Queue[str] = Queue()
    server = Server(app, room, settings, on_ready=addresses.put)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Live(server, addresses.get(timeout=10), thread)
    finally:
        server.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()
