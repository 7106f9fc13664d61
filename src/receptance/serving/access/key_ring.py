"""The keys that open a server; they are kept as digests, and none is ever written out."""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from receptance.errors import ConfigError

logger = logging.getLogger(__name__)

KEYS_VARIABLE = "RECEPTANCE_API_KEYS"
"""The variable of the environment that may hold keys, apart by lines or commas."""

LEAST_KEY_LENGTH = 16
"""A shorter one could be found by trying."""

_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,64}):(.*)")
_KEY = re.compile(r"[\x21-\x7e]+")
_BEARER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)


class KeyRing:
    """The keys of a server.

    What a client makes, such as a state or a place in the cache, belongs to its key's owner: the
    name before the key, or a digest of the key where it has none. Two keys of one name have one
    owner, so that a key can be replaced by the next one while both are in use.
    """

    def __init__(self, lines: Iterable[str], *, source: str = "the keys") -> None:
        """Take one key from each line, `KEY` or `NAME:KEY`; skip empty lines and `#` comments.

        Args:
            lines: The keys. A key is printable ASCII without spaces.
            source: Where they come from, for messages.

        Raises:
            ConfigError: If there is no key, or one is too short, twice there or not written so.
        """
        # Digests under a secret of this process say nothing of the keys, and how long they take
        # to compare says nothing that a client could use.
        self._secret = secrets.token_bytes(32)
        self._owners: dict[bytes, str] = {}
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                self._add(line.strip(), f"{source}, line {number}")
        if not self._owners:
            raise ConfigError(f"{source} must hold at least one key, one a line, but there is none")

    @classmethod
    def find(cls, file: Path | None, environment: Mapping[str, str]) -> "KeyRing | None":
        """Return the keys of a file, or else those of `RECEPTANCE_API_KEYS`, or else None.

        A file that every user of the machine can read is taken, and the log warns of it.

        Args:
            file: A file with one key a line.
            environment: `os.environ`.

        Returns:
            The keys, or None where neither is there: then everybody may call.

        Raises:
            ConfigError: If the keys cannot be used.
            OSError: If the file cannot be read.
        """
        if file is not None:
            if os.name == "posix" and file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
                logger.warning(_OPEN_TO_ALL, str(file), str(file))
            text = file.read_bytes().decode("utf-8", errors="replace")
            return cls(text.splitlines(), source=repr(str(file)))
        if KEYS_VARIABLE in environment:
            lines = environment[KEYS_VARIABLE].replace(",", "\n").splitlines()
            return cls(lines, source=KEYS_VARIABLE)
        return None

    def owner(self, authorization: str | None) -> str | None:
        """Return who sends an `Authorization` header, or None if its key is none of these.

        Args:
            authorization: The header's value, `Bearer KEY`; None where it is absent.
        """
        match = _BEARER.fullmatch(authorization or "")
        digest = self._digest(match[1] if match else "")
        found = None
        # All are looked at, whichever fits: the time does not tell which one, nor how much of it.
        for known, owner in self._owners.items():
            if hmac.compare_digest(known, digest):
                found = owner
        return found

    def __len__(self) -> int:
        return len(self._owners)

    def __repr__(self) -> str:
        return f"KeyRing({len(self)} keys)"

    def _add(self, line: str, where: str) -> None:
        named = _NAMED.fullmatch(line)
        name, key = named.groups() if named else (None, line)
        if not _KEY.fullmatch(key):
            raise ConfigError(f"{where}: a key must be printable ASCII without spaces, but is not")
        if len(key) < LEAST_KEY_LENGTH:
            raise ConfigError(
                f"{where}: a key must have at least {LEAST_KEY_LENGTH} characters, but it has "
                f"{len(key)}; make one with: openssl rand -hex 32"
            )
        digest = self._digest(key)
        if digest in self._owners:
            raise ConfigError(f"{where}: a key must be there once, but this one came before")
        # The same after a restart, as what it owns may be on the disk.
        nameless = hashlib.blake2b(key.encode(), digest_size=8, person=b"receptance-owner")
        self._owners[digest] = name or f"key-{nameless.hexdigest()}"

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._secret, key.encode(), "sha256")


_OPEN_TO_ALL = "every user of this machine can read or change the keys in %r; chmod o-rw %r"
