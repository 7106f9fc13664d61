"""States in memory."""

from receptance.inference import LanguageModel
from receptance.serving.state_store import Kept, MemoryShelf, Shelf


def test_a_state_is_there_until_it_is_removed(lm: LanguageModel):
    shelf = MemoryShelf()
    assert isinstance(shelf, Shelf)
    kept = Kept(owner="me", name="", tokens=1, n_bytes=10)
    state = lm.prefill("a")
    shelf.put(kept, state)
    assert shelf.find("me", kept.id) == kept
    assert shelf.find("you", kept.id) is None
    assert shelf.read(kept) is state
    assert (shelf.count("me"), shelf.count("you"), shelf.n_bytes) == (1, 0, 10)
    assert shelf.of_owner("me") == [kept]
    assert shelf.remove(kept)
    assert not shelf.remove(kept)
    assert shelf.read(kept) is None
    assert (shelf.count("me"), shelf.n_bytes) == (0, 0)
