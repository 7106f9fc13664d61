"""Who may keep how many states, and who may have them back: nobody but who made them."""

import threading
from collections import Counter
from collections.abc import Callable

from receptance.errors import RequestError, StateError
from receptance.models import State
from receptance.serving.settings import Settings
from receptance.serving.state_store.kept import MAX_NAME_CHARACTERS, Kept, is_id
from receptance.serving.state_store.shelf import Shelf

_MAX_HEADER_BYTES = 16 * 1024
_MAX_TOKENS = 2**53


class Place:
    """A place for one state, which nobody else can take while its text is written."""

    def __init__(
        self,
        owner: str,
        put: Callable[[str, str, int, State], Kept],
        remove: Callable[[Kept], object],
        free: "Callable[[Place], None]",
    ) -> None:
        self.owner = owner
        self._put = put
        self._remove = remove
        self._free = free
        self._lock = threading.Lock()
        self._is_begun = False
        self._is_left = False
        self._is_ended = False
        self._kept: Kept | None = None

    def keep(self, name: str, tokens: int, state: State) -> Kept:
        """Keep a state here.

        Args:
            name: What its owner calls it.
            tokens: How many tokens it has seen.
            state: Of one sequence, not to be modified afterwards.

        Raises:
            RequestError: If it cannot be written, or the place was left.
        """
        with self._lock:
            if self._is_left:
                raise RequestError(_LEFT, status=499, code="client_left")
            self._is_begun = True
        try:
            kept = self._put(self.owner, name, tokens, state)
            with self._lock:
                self._kept, self._is_ended = kept, True
                is_unwanted = self._is_left
            if is_unwanted:
                self._remove(kept)
            return kept
        finally:
            self._is_ended = True
            self._free(self)

    def leave(self) -> None:
        """Give the place back if it was not used; may be called again.

        Where `keep` is at it, nobody waits for it any more: it gives the place back when it ends,
        and keeps nothing.
        """
        with self._lock:
            if self._is_ended:
                return
            self._is_left = True
            if self._is_begun:
                return
        self._free(self)

    def abandon(self) -> None:
        """Leave, and forget what was kept here, since nobody was told of it."""
        self.leave()
        with self._lock:
            # Where it was left while it was kept, `keep` forgets it.
            kept = None if self._is_left else self._kept
            self._kept = None
        if kept is not None:
            self._remove(kept)


class StateStore:
    """The kept states of one model. Any thread may call; what reads or writes may take a while.

    A state of another owner is not there: whoever asks for it is told what is told of an id that
    never was.
    """

    def __init__(self, shelf: Shelf, settings: Settings, *, like: State, fingerprint: str) -> None:
        """Take a place to keep states in.

        Args:
            shelf: The place.
            settings: How many there may be.
            like: A state of the model.
            fingerprint: The model's.
        """
        self._shelf = shelf
        self._max_per_owner = settings.max_states_per_key
        self._max_bytes = settings.states_bytes
        self._like = like
        self._fingerprint = fingerprint
        self._state_bytes = sum(each.nbytes for each in like.tensors.values())
        self._lock = threading.Lock()
        self._places: set[Place] = set()
        self._promised: Counter[str] = Counter()

    @property
    def max_content_bytes(self) -> int:
        """The longest file that can be a state of this model."""
        return self._state_bytes + _MAX_HEADER_BYTES

    def reserve(self, owner: str) -> Place:
        """Return a place for one state more.

        Args:
            owner: Who will have it.

        Raises:
            RequestError: 409 if the owner has as many as a key may, or 429 if all together take as
                much as they may.
        """
        self._require_kept()
        with self._lock:
            if self._shelf.count(owner) + self._promised[owner] >= self._max_per_owner:
                message = _TOO_MANY.format(self._max_per_owner)
                raise RequestError(message, status=409, code="too_many_states")
            promised = self._state_bytes * (len(self._places) + 1)
            if self._shelf.n_bytes + promised > self._max_bytes:
                raise RequestError(_FULL, status=429, code="states_full")
            place = Place(owner, self._put, self._shelf.remove, self._free)
            self._places.add(place)
            self._promised[owner] += 1
        return place

    def of_owner(self, owner: str) -> list[Kept]:
        """Return what an owner keeps, the latest first.

        Raises:
            RequestError: 404 if this server keeps none.
        """
        self._require_kept()
        return sorted(self._shelf.of_owner(owner), key=lambda each: (-each.created, each.id))

    def find(self, owner: str, id_: str) -> Kept:
        """Return what is known of a state.

        Args:
            owner: Who asks.
            id_: As it was told when the state was made.

        Raises:
            RequestError: 404 if the owner has no such state.
        """
        self._require_kept()
        found = self._shelf.find(owner, id_) if is_id(id_) else None
        if found is None:
            raise _not_found(id_)
        return found

    def read(self, owner: str, id_: str) -> tuple[Kept, State]:
        """Return a state, on the model's device and not to be modified.

        Raises:
            RequestError: 404 if the owner has no such state, or it is damaged.
        """
        kept = self.find(owner, id_)
        state = self._shelf.read(kept)
        if state is None:
            raise _not_found(id_)
        return kept, state.to(next(iter(self._like.tensors.values())).device)

    def remove(self, owner: str, id_: str) -> None:
        """Forget a state.

        Raises:
            RequestError: 404 if the owner has no such state.
        """
        if not self._shelf.remove(self.find(owner, id_)):
            raise _not_found(id_)

    def content(self, owner: str, id_: str) -> bytes:
        """Return a state as a file, which `import_content` takes and `receptance generate` too.

        Raises:
            RequestError: 404 if the owner has no such state.
        """
        kept, state = self.read(owner, id_)
        notes = {"name": kept.name, "tokens": str(kept.tokens)}
        return state.to_bytes(self._fingerprint, notes)

    def import_content(self, place: Place, content: bytes) -> Kept:
        """Keep a state that comes as a file from anywhere.

        Args:
            place: Where to.
            content: The file; its notes may say its name and how many tokens it has seen.

        Raises:
            RequestError: 400 if it is no state of this model.
        """
        if len(content) > self.max_content_bytes:
            message = _TOO_LONG.format(self.max_content_bytes, len(content))
            raise RequestError(message, code="invalid_state")
        try:
            state, notes = type(self._like).from_bytes(
                content, like=self._like, fingerprint=self._fingerprint
            )
        except StateError as error:
            message = str(error)[:500].encode("utf-8", "backslashreplace").decode()
            raise RequestError(message, code="invalid_state") from error
        # Half a character can be neither written nor sent.
        name = notes.get("name", "").encode("utf-8", "replace").decode()
        tokens = notes.get("tokens", "0")
        is_number = tokens.isascii() and tokens.isdecimal() and len(tokens) <= 16
        if not is_number or int(tokens) > _MAX_TOKENS:
            raise RequestError(_NO_COUNT, code="invalid_state")
        return place.keep(name[:MAX_NAME_CHARACTERS], int(tokens), state)

    def _require_kept(self) -> None:
        if not self._max_per_owner:
            raise RequestError(_NONE_KEPT, status=404, code="states_not_kept")

    def _put(self, owner: str, name: str, tokens: int, state: State) -> Kept:
        kept = Kept(owner=owner, name=name, tokens=tokens, n_bytes=self._state_bytes)
        try:
            self._shelf.put(kept, state.to("cpu"))
        except OSError as error:
            raise RequestError(_NOT_WRITTEN, status=503, code="state_not_written") from error
        return kept

    def _free(self, place: Place) -> None:
        with self._lock:
            if place in self._places:
                self._places.remove(place)
                self._promised -= Counter([place.owner])


def _not_found(id_: str) -> RequestError:
    shown = id_[:60].encode("ascii", "backslashreplace").decode()
    message = f"there is no state {shown!r}; GET /v1/states lists those of your key"
    return RequestError(message, status=404, code="state_not_found", param="state")


_NONE_KEPT = "this server keeps no states; send the whole conversation"
_TOO_MANY = (
    "a key may keep at most {} states at this server, and yours keeps as many; delete one with "
    "DELETE /v1/states/{{id}}"
)
_FULL = "all states together take as much as they may at this server; delete one of yours"
_TOO_LONG = "a state of this model must have at most {} bytes as a file, but this has {}"
_NO_COUNT = "`tokens` in the file's metadata must be a number of tokens, but it is not"
_LEFT = "the client left before the state was kept"
_NOT_WRITTEN = "the state cannot be written: the server's disk does not take it"
