"""Where kept states are: in memory, or wherever else a `Shelf` puts them."""

import threading
from typing import Protocol, runtime_checkable

from receptance.models import State
from receptance.serving.state_store.kept import Kept


@runtime_checkable
class Shelf(Protocol):
    """A place for states. Any thread may call, and calls may take as long as a disk does."""

    @property
    def n_bytes(self) -> int:
        """How much all states take."""
        ...

    def of_owner(self, owner: str) -> list[Kept]:
        """Return what an owner keeps, in no order."""
        ...

    def count(self, owner: str) -> int:
        """Return how many states an owner keeps."""
        ...

    def find(self, owner: str, id_: str) -> Kept | None:
        """Return an owner's state of that id; None if the owner has none."""
        ...

    def put(self, kept: Kept, state: State) -> None:
        """Keep a state.

        Raises:
            OSError: If it cannot be written.
        """
        ...

    def read(self, kept: Kept) -> State | None:
        """Return a state's numbers; None if they are gone, or damaged."""
        ...

    def remove(self, kept: Kept) -> bool:
        """Forget a state, and return whether it was there."""
        ...


class MemoryShelf:
    """States in memory, until the server ends."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._states: dict[tuple[str, str], tuple[Kept, State]] = {}
        self._n_bytes = 0

    @property
    def n_bytes(self) -> int:
        """How much all states take; a fork counts as if it were a copy."""
        return self._n_bytes

    def of_owner(self, owner: str) -> list[Kept]:
        """Return what an owner keeps; see `Shelf`."""
        with self._lock:
            return [kept for kept, _ in self._states.values() if kept.owner == owner]

    def count(self, owner: str) -> int:
        """Return how many states an owner keeps."""
        with self._lock:
            return sum(name == owner for name, _ in self._states)

    def find(self, owner: str, id_: str) -> Kept | None:
        """Return an owner's state of that id; None if the owner has none."""
        found = self._states.get((owner, id_))
        return None if found is None else found[0]

    def put(self, kept: Kept, state: State) -> None:
        """Keep a state, which is not to be modified afterwards."""
        with self._lock:
            self._states[kept.owner, kept.id] = kept, state
            self._n_bytes += kept.n_bytes

    def read(self, kept: Kept) -> State | None:
        """Return a state's numbers, not to be modified; None if they are gone."""
        found = self._states.get((kept.owner, kept.id))
        return None if found is None else found[1]

    def remove(self, kept: Kept) -> bool:
        """Forget a state, and return whether it was there."""
        with self._lock:
            found = self._states.pop((kept.owner, kept.id), None)
            self._n_bytes -= kept.n_bytes if found else 0
        return found is not None
