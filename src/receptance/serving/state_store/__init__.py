"""States that clients keep under an id: each belongs to the owner of the key that made it."""

from receptance.serving.state_store.folder import FolderShelf
from receptance.serving.state_store.kept import MAX_NAME_CHARACTERS, Kept
from receptance.serving.state_store.opening import open_store
from receptance.serving.state_store.shelf import MemoryShelf, Shelf
from receptance.serving.state_store.store import Place, StateStore

__all__ = [
    "MAX_NAME_CHARACTERS",
    "FolderShelf",
    "Kept",
    "MemoryShelf",
    "Place",
    "Shelf",
    "StateStore",
    "open_store",
]
