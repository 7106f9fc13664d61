"""Which place the settings say."""

from receptance.inference import LanguageModel
from receptance.serving.settings import Settings
from receptance.serving.state_store.folder import FolderShelf
from receptance.serving.state_store.shelf import MemoryShelf, Shelf
from receptance.serving.state_store.store import StateStore


def open_store(lm: LanguageModel, settings: Settings) -> StateStore:
    """Return the kept states of a model, where the settings say.

    Args:
        lm: The model.
        settings: Where, and how many.

    Raises:
        ConfigError: If nothing can be written in `state_folder`.
    """
    like, fingerprint = lm.zero_state(), lm.fingerprint
    folder = settings.state_folder
    shelf: Shelf = MemoryShelf()
    if folder is not None and settings.max_states_per_key:
        shelf = FolderShelf(folder, like=like, fingerprint=fingerprint)
    return StateStore(shelf, settings, like=like, fingerprint=fingerprint)
