"""A server from its first connection to its last: it listens, and it ends without cutting off."""

import asyncio
import errno
import gc
import logging
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from receptance.errors import ConfigError
from receptance.serving.access import KeyRing
from receptance.serving.connections import guarded
from receptance.serving.settings import Settings

logger = logging.getLogger(__name__)

_LAST_SECONDS = 2.0
"""For the last words of requests that were ended, also when it is to be at once."""

_TICK_SECONDS = 0.05


@runtime_checkable
class Room(Protocol):
    """What computes behind the app, as far as its end goes; its beginning is the app's."""

    def retire(self) -> None:
        """Say that it is not ready, and go on taking requests."""
        ...

    async def drain(self, seconds: float) -> None:
        """Take no more requests, and return when all are finished; end them after some seconds."""
        ...

    async def until_dead(self) -> None:
        """Return when it can compute nothing any more, whatever is tried."""
        ...


def check_exposure(settings: Settings, keys: KeyRing | None) -> None:
    """Refuse settings that let strangers in.

    Args:
        settings: Where it listens, and for whom.
        keys: Who may call.

    Raises:
        ConfigError: If there is no key, and others can reach the server.
    """
    if keys is not None:
        return
    if settings.unix_socket is None and not _is_loopback(settings.host):
        raise ConfigError(
            f"an address that others can reach must have keys, but {settings.host!r} has none; "
            "put one a line into a file and start with --api-key-file FILE"
        )
    for name, values in (
        ("cors_origins", settings.cors_origins),
        ("allowed_hosts", settings.allowed_hosts),
    ):
        if "*" in values:
            raise ConfigError(
                f"`{name}` must name who may call where there are no keys, but has '*': any page "
                "that you visit could use the server; start with --api-key-file FILE"
            )


def bind(settings: Settings) -> socket.socket:
    """Return a socket that has its address and does not listen yet.

    Raises:
        ConfigError: If the address is not to be had.
    """
    if settings.unix_socket is not None:
        return _bind_file(settings.unix_socket)
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise ConfigError(
            f"`host` must be an address of this machine, but is {settings.host!r}"
        ) from None
    # Where a name has both, clients that know of one only know of the older.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"cannot listen on port {settings.port} of {settings.host!r}: {error.strerror}; "
            "choose another with --port"
        ) from None
    return bound


def serve(
    app: ASGIApp,
    room: Room | None,
    settings: Settings,
    *,
    listener: socket.socket | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serve until a signal, and return the exit code.

    SIGTERM ends a server in order: it says that it is not ready, and goes on for
    `drain_seconds`; then takes no more requests, and gives those that run `shutdown_seconds`; and
    returns 0. SIGINT does the same without the first part, and returns 130. The second signal ends
    what runs at once, each stream with an event that says so; who does not read that within two
    seconds is cut off, and the third signal waits for nobody.

    A room that is dead ends the server, too, and it returns 1: so whoever watches the process can
    begin it anew, and nobody need ask it how it is.

    Args:
        app: What answers, within its perimeter.
        room: What computes behind it; None where nothing has to end.
        settings: Its limits.
        listener: What `bind` returned; None binds now.
        on_ready: Called with the address when it listens.

    Returns:
        What to return to the shell.

    Raises:
        ConfigError: If the address is not to be had.
    """
    return Server(app, room, settings, listener=listener, on_ready=on_ready).run()


class Server:
    """A server that runs once."""

    def __init__(
        self,
        app: ASGIApp,
        room: Room | None,
        settings: Settings,
        *,
        listener: socket.socket | None = None,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        """Bind the address, if that is not done; the arguments are those of `serve`."""
        self._app = app
        self._room = room
        self._settings = settings
        self._listener = bind(settings) if listener is None else listener
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signals: list[int] = []
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._now = asyncio.Event()
        self._has_died = False

    def run(self) -> int:
        """Serve until a signal or `stop`, and return the exit code."""
        try:
            asyncio.run(self._run())
        finally:
            gc.unfreeze()
            self._listener.close()
            if self._settings.unix_socket is not None:
                self._settings.unix_socket.unlink(missing_ok=True)
        return self.exit_code

    @property
    def exit_code(self) -> int:
        """What to return to the shell, once it has ended."""
        if self._has_died:
            return 1
        if len(self._signals) > 1:
            return 128 + self._signals[-1]
        return 130 if signal.SIGINT in self._signals else 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End as a signal does; may be called from any thread.

        Args:
            number: Of the signal.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._take_signal, number)

    def _take_signal(self, number: int) -> None:
        if self._hurry.is_set():
            self._now.set()
        if self._signals:
            self._hurry.set()
        self._signals.append(number)
        self._ending.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = _Uvicorn(self._config(), self._started)
        with _signal_handlers(self._loop, self._take_signal):
            serving = asyncio.create_task(server.serve(sockets=[self._listener]))
            beside = [asyncio.create_task(self._end(server)), asyncio.create_task(self._watch())]
            try:
                await serving
            finally:
                for each in beside:
                    each.cancel()

    async def _watch(self) -> None:
        """End the server if its room dies; one that is asked to end does so in any case."""
        if self._room is None:
            return
        await self._room.until_dead()
        if not self._ending.is_set():
            logger.error("the engine is down for good, and the server ends: begin it anew")
            self._has_died = True
            self._hurry.set()  # nothing that runs will come to its end
            self._ending.set()

    async def _end(self, server: "_Uvicorn") -> None:
        """Wait for the end to be asked for, and bring it about."""
        await self._ending.wait()
        if self._room is not None:
            self._room.retire()
        if signal.SIGINT not in self._signals:
            await self._unless_in_a_hurry(asyncio.sleep(self._settings.drain_seconds))
        began = asyncio.get_running_loop().time()
        seconds = self._settings.shutdown_seconds
        if self._room is not None:
            await self._unless_in_a_hurry(self._room.drain(seconds))
        server.should_exit = True
        left = seconds - (asyncio.get_running_loop().time() - began)
        await _set_within(self._hurry, max(left, _LAST_SECONDS))
        if self._hurry.is_set():
            if self._room is not None:
                await self._room.drain(0.0)
            await _set_within(self._now, _LAST_SECONDS)
        while True:  # until uvicorn, which ends with the last of them, ends this too
            server.cut_off()
            await asyncio.sleep(_TICK_SECONDS)

    async def _unless_in_a_hurry(self, work: Any) -> None:
        tasks = [asyncio.ensure_future(work), asyncio.create_task(self._hurry.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        for task in done:
            task.result()

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            _without_the_cut_off(self._app),
            loop="asyncio",
            http=guarded(self._settings),  # type: ignore[arg-type]  # it makes what is wanted
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=self._settings.keep_alive_seconds,  # type: ignore[arg-type]
            h11_max_incomplete_event_size=self._settings.max_header_bytes,
        )

    def _started(self) -> None:
        # What is there by now, the libraries' objects above all, stays. Without this the collector
        # looks through all of them now and then, and everybody waits for 120 ms.
        gc.freeze()
        if self._on_ready is not None:
            self._on_ready(_shown_address(self._listener))


class _Uvicorn(uvicorn.Server):
    """uvicorn, whose signals are ours."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def cut_off(self) -> None:
        """End what is being answered: a connection first, and when called again its task."""
        connections = list(self.server_state.connections)
        for connection in connections:
            connection.transport.abort()
        if not connections:
            for task in list(self.server_state.tasks):
                task.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        yield


def _without_the_cut_off(app: ASGIApp) -> ASGIApp:
    """Return an app whose requests, when they are cancelled, just end.

    uvicorn would log each of them as a failure of the app, with a traceback.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return answer


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, so long at most."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


@contextmanager
def _signal_handlers(
    loop: asyncio.AbstractEventLoop, take: Callable[[int], None]
) -> Iterator[None]:
    """Send the signals that end a program to `take`; outside the main thread there are none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, take, int(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _bind_file(path: Path) -> socket.socket:
    """Return a socket that is a file, which the owner and the group may open."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        bound.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {str(path)!r}: {error.strerror or error}") from None
    return bound


def _clear(path: Path) -> None:
    """Remove the socket that a server left which no longer runs."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "it is there and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another server listens there")
    path.unlink()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _shown_address(listener: socket.socket) -> str:
    address = listener.getsockname()
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
