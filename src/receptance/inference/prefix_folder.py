"""States after prompts on a disk: those that have no place in memory any more."""

import logging
import os
import re
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from receptance.atomic import remove_staged, staging_name
from receptance.errors import StateError
from receptance.models import State

logger = logging.getLogger(__name__)

Scope = tuple[str, ...]
"""Whose a state is: of which model, and for whom."""

_MAGIC = b"receptance-prefix-1\n"
_HASH_BYTES = 32
_NAME = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,9})-([0-9a-f]{64})\.prefix")
_MAX_PENDING = 8
"""States that may wait for the disk; more are forgotten, so that nobody waits for it."""


@dataclass(frozen=True)
class _File:
    """What is known of a file without reading it."""

    scope: str
    n_tokens: int
    n_bytes: int


class PrefixFolder:
    """Keeps states in files, the lately used ones, within bounded bytes.

    A file holds the scope, the tokens and the state, behind a hash of them all. On a hit all are
    compared; what is damaged is forgotten. It is there again for the next process, if weights and
    everything else of the scope are the same. Writing goes on beside; reading waits for the disk.

    All but the writing belongs to one thread. One process at a time may use a folder.
    """

    def __init__(self, folder: Path, max_bytes: int, *, like: State, fingerprint: str) -> None:
        """Open a folder, and make it if it is not there.

        Args:
            folder: The folder.
            max_bytes: How much its files may take.
            like: A state of the model, and of its adapters.
            fingerprint: The model's.

        Raises:
            OSError: If nothing can be written there.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._like = like
        self._fingerprint = fingerprint
        self._lock = threading.Lock()
        self._files: OrderedDict[bytes, _File] = OrderedDict()
        self._lengths: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._n_bytes = 0
        self._pending: dict[bytes, Future[None]] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_staged(folder)
        self._scan()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="prefix-folder")

    @property
    def n_bytes(self) -> int:
        """How much the files take."""
        return self._n_bytes

    def __len__(self) -> int:
        """How many states there are."""
        return len(self._files)

    def lengths(self, scope: Scope) -> Collection[int]:
        """Return of how many tokens there are states in a scope."""
        with self._lock:
            return list(self._lengths.get(_name_of(scope), ()))

    def has(self, key: bytes) -> bool:
        """Whether there is a state of that key."""
        return key in self._files

    def find(self, key: bytes, scope: Scope, tokens: memoryview) -> State | None:
        """Return the state after some tokens; None if there is none, or it cannot be trusted.

        Args:
            key: Of the scope and the tokens.
            scope: Whose it must be.
            tokens: Four bytes for each that it must have seen.
        """
        file = self._files.get(key)
        if file is None:
            return None
        path = self._path(key, file)
        try:
            state = self._read(path.read_bytes(), scope, tokens)
        except (OSError, StateError):
            logger.warning("a remembered state on the disk can not be read, and is forgotten")
            with self._lock:
                self._forget(key)
            return None
        with self._lock:
            if key in self._files:  # it was not forgotten meanwhile
                self._files.move_to_end(key)
        with suppress(OSError):
            os.utime(path)  # the next process knows what was used
        return state

    def put(self, key: bytes, scope: Scope, tokens: bytes, state: State) -> None:
        """Write a state beside, if the disk keeps up.

        Args:
            key: Of the scope and the tokens.
            scope: Whose it is.
            tokens: Four bytes for each that it has seen.
            state: Not to be modified afterwards.
        """
        self._pending = {key: each for key, each in self._pending.items() if not each.done()}
        is_there = key in self._pending or self.has(key)
        if len(self._pending) < _MAX_PENDING and not is_there:
            self._pending[key] = self._writer.submit(self._write, key, scope, tokens, state)

    def wait(self, seconds: float | None = None) -> bool:
        """Return when all that was put is written, or could not be.

        Args:
            seconds: How long at most; None is for as long as it takes.

        Returns:
            Whether nothing waits any more.
        """
        return not wait(list(self._pending.values()), seconds).not_done

    def clear(self) -> None:
        """Forget all states."""
        self.wait()
        with self._lock:
            for key in list(self._files):
                self._forget(key)

    def close(
        self, last: Iterable[tuple[bytes, Scope, bytes, State]] = (), seconds: float = 10.0
    ) -> None:
        """Write what waits for it and what is still in memory, as far as time suffices, and end.

        Args:
            last: As for `put`, the lately used first: what has no place beside these is left out.
            seconds: After which no other is begun.
        """
        deadline, n_bytes, state_bytes = time.monotonic() + seconds, 0, 0
        paths: list[Path] = []
        is_in_time = self.wait(seconds)
        for key, scope, tokens, state in last:
            if not is_in_time or time.monotonic() >= deadline:
                break
            head_bytes = len(_head(scope, len(tokens))) + len(tokens)
            if n_bytes + head_bytes + state_bytes > self._max_bytes:
                continue  # it would push out one that was used later
            self.put(key, scope, tokens, state)
            is_in_time = self.wait(deadline - time.monotonic())
            with self._lock:
                file = self._files.get(key)
                if file is None:
                    continue
                self._files.move_to_end(key)
            n_bytes += file.n_bytes
            state_bytes = file.n_bytes - head_bytes
            paths.append(self._path(key, file))
        now = time.time_ns()
        for i, path in enumerate(paths):  # the disk's own clock is too coarse to tell them apart
            with suppress(OSError):
                os.utime(path, ns=(now - 1000 * i, now - 1000 * i))
        self._writer.shutdown(wait=is_in_time, cancel_futures=True)

    def _scan(self) -> None:
        """Learn what is there, the lately used last."""
        found: list[tuple[int, bytes, _File]] = []
        for each in self._folder.iterdir():
            if match := _NAME.fullmatch(each.name):
                with suppress(OSError):
                    stat = each.stat()
                    file = _File(match[1], int(match[2]), stat.st_size)
                    found.append((stat.st_mtime_ns, bytes.fromhex(match[3]), file))
        with self._lock:
            for _, key, file in sorted(found, key=lambda each: each[:2]):
                self._note(key, file)

    def _read(self, content: bytes, scope: Scope, tokens: memoryview) -> State:
        """Return the state of a file.

        Raises:
            StateError: If the file is damaged, or of another scope or other tokens.
        """
        head = _head(scope, len(tokens)) + tokens
        begin = len(_MAGIC) + _HASH_BYTES
        rest = memoryview(content)[begin:]
        digest = content[len(_MAGIC) : begin]
        is_whole = content.startswith(_MAGIC) and digest == blake2b(rest, digest_size=32).digest()
        if not is_whole or bytes(rest[: len(head)]) != head:
            raise StateError(_DAMAGED)
        return type(self._like).from_bytes(
            bytes(rest[len(head) :]), like=self._like, fingerprint=self._fingerprint
        )[0]

    def _write(self, key: bytes, scope: Scope, tokens: bytes, state: State) -> None:
        try:
            self._store(key, scope, tokens, state)
        except Exception as error:  # noqa: BLE001 (nobody waits who could be told)
            logger.warning("a state can not be remembered on the disk: %s", type(error).__name__)
            with self._lock:
                self._forget(key)

    def _store(self, key: bytes, scope: Scope, tokens: bytes, state: State) -> None:
        rest = _head(scope, len(tokens)) + tokens + state.to_bytes(self._fingerprint)
        content = _MAGIC + blake2b(rest, digest_size=32).digest() + rest
        if len(content) > self._max_bytes:
            return
        file = _File(_name_of(scope), len(tokens) // 4, len(content))
        path = self._path(key, file)
        # Not waited for: what a power cut takes of it is seen by the hash.
        staged = staging_name(path)
        try:
            staged.touch(mode=0o600)
            staged.write_bytes(content)
            staged.replace(path)
        except OSError as error:
            logger.warning("a state can not be remembered on the disk: %s", error.strerror)
            with suppress(OSError):
                staged.unlink()
            return
        with self._lock:
            self._note(key, file)

    def _note(self, key: bytes, file: _File) -> None:
        """Take in that there is a file, and forget those that were not used for longest."""
        known = self._files.get(key)
        if known == file:
            self._uncount(key)
        else:
            self._forget(key)
        self._files[key] = file
        lengths = self._lengths[file.scope]
        lengths[file.n_tokens] = lengths.get(file.n_tokens, 0) + 1
        self._n_bytes += file.n_bytes
        while self._files and self._n_bytes > self._max_bytes:
            self._forget(next(iter(self._files)))

    def _forget(self, key: bytes) -> None:
        file = self._uncount(key)
        if file is not None:
            with suppress(OSError):
                self._path(key, file).unlink()

    def _uncount(self, key: bytes) -> _File | None:
        """Return what was known of a file, and know it no more."""
        file = self._files.pop(key, None)
        if file is None:
            return None
        self._n_bytes -= file.n_bytes
        lengths = self._lengths[file.scope]
        lengths[file.n_tokens] -= 1
        if not lengths[file.n_tokens]:
            del lengths[file.n_tokens]
        if not lengths:
            del self._lengths[file.scope]
        return file

    def _path(self, key: bytes, file: _File) -> Path:
        return self._folder / f"{file.scope}-{file.n_tokens}-{key.hex()}.prefix"


def _name_of(scope: Scope) -> str:
    return blake2b(repr(scope).encode(), digest_size=16).hexdigest()


def _head(scope: Scope, n_token_bytes: int) -> bytes:
    name = repr(scope).encode()
    return len(name).to_bytes(8, "little") + name + n_token_bytes.to_bytes(8, "little")


_DAMAGED = "the file must hold the state after these tokens, but it does not"
