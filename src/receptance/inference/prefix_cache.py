"""States after prompts, remembered so that a prompt which begins alike need not be read again."""

from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from receptance.inference.language_model import LanguageModel
from receptance.inference.prefix_folder import PrefixFolder, Scope
from receptance.models import State

CHECKPOINT_TOKENS = 1024
"""At which multiples of it the states within long prompts are remembered too."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """A state and the tokens that it has seen."""

    scope: Scope
    tokens: bytes
    state: State
    features: Float[Tensor, " C"] | None = None

    @property
    def n_bytes(self) -> int:
        """How much memory it takes."""
        features = 0 if self.features is None else self.features.nbytes
        return (
            len(self.tokens) + features + sum(each.nbytes for each in self.state.tensors.values())
        )


class Found(NamedTuple):
    """What is remembered of a prompt. Not to be modified."""

    n_tokens: int
    """How many of its tokens the state has seen."""
    state: State
    features: Float[Tensor, " C"] | None
    """What the model's head saw at the last of them, if that was kept."""


class PrefixCache:
    """Remembers states by the tokens that led to them, the lately used ones, in bounded memory.

    Scopes know nothing of each other. A state that is found is that of exactly these tokens: they
    are compared, so that no collision of hashes can hand over another's.

    It belongs to the thread of its engine; another may read its numbers.
    """

    def __init__(self, max_bytes: int, folder: PrefixFolder | None = None) -> None:
        """Begin empty.

        Args:
            max_bytes: How much memory the states and their tokens may take; 0 keeps none.
            folder: Where states go that have no place in memory, and come back from; None
                forgets them.

        Raises:
            ValueError: If it is negative.
        """
        if max_bytes < 0:
            raise ValueError(f"`max_bytes` must be at least 0, got {max_bytes}")
        self.max_bytes = max_bytes
        self._folder = folder
        self.n_bytes = 0
        """How much memory is taken."""
        self.n_hits = 0
        """How many prompts went on from a state."""
        self.n_misses = 0
        """How many found none."""
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        # How many states of each scope have seen so many tokens: the prefixes worth a look.
        self._lengths: defaultdict[Scope, dict[int, int]] = defaultdict(dict)

    @property
    def folder_bytes(self) -> int:
        """How much of the disk is taken."""
        return 0 if self._folder is None else self._folder.n_bytes

    def __len__(self) -> int:
        """How many states are remembered."""
        return len(self._entries)

    def find(self, scope: Scope, tokens: Sequence[int]) -> Found | None:
        """Return the longest beginning of `tokens` that is remembered; None if there is none.

        Args:
            scope: Whose states are searched.
            tokens: A prompt. It is found whole only where the features at its end were kept, since
                a state alone says nothing of the next token.
        """
        prompt = memoryview(_packed(tokens))
        digest, start = _hash_of(scope), 0
        candidates: list[tuple[int, bytes]] = []
        lengths = set(self._lengths.get(scope, ()))
        if self._folder is not None:
            lengths.update(self._folder.lengths(scope))
        for n in sorted(lengths):
            if n > len(tokens):
                break
            digest.update(prompt[start * 4 : n * 4])
            start = n
            candidates.append((n, digest.digest()))
        for n, key in reversed(candidates):
            entry = self._entries.get(key)
            is_whole = n == len(tokens)
            if entry and entry.scope == scope and memoryview(entry.tokens) == prompt[: n * 4]:
                if is_whole and entry.features is None:
                    continue
                self._entries.move_to_end(key)
                self.n_hits += 1
                return Found(n, entry.state, entry.features)
            if not is_whole and (state := self._brought_back(key, scope, prompt[: n * 4])):
                self.n_hits += 1
                return Found(n, state, None)
        self.n_misses += 1
        return None

    def put(
        self,
        scope: Scope,
        tokens: Sequence[int],
        state: State,
        features: Float[Tensor, " C"] | None = None,
    ) -> None:
        """Remember a state, and forget those that were not used for longest if memory is short.

        Args:
            scope: As for `find`.
            tokens: All that the state has seen since the model's start.
            state: Of one sequence, all of it read as a prompt: a decoded token leaves other last
                digits. Kept as it is, so it must not be modified afterwards.
            features: What the model's head saw at the last token, for the same prompt once more.
                It stays in memory.
        """
        entry = _Entry(scope, _packed(tokens), state, features)
        if entry.n_bytes <= self.max_bytes:
            digest = _hash_of(scope)
            digest.update(entry.tokens)
            self._keep(digest.digest(), entry)

    def clear(self) -> None:
        """Forget all states, those in the folder too."""
        self._entries.clear()
        self._lengths.clear()
        self.n_bytes = 0
        if self._folder is not None:
            self._folder.clear()

    def close(self, seconds: float = 10.0) -> None:
        """Bring what is in memory to the folder, for the next process; without one, do nothing.

        Args:
            seconds: How long it may take, but for the last write. What was used last goes first.
        """
        if self._folder is not None:
            last = (
                (key, each.scope, each.tokens, each.state)
                for key, each in reversed(self._entries.items())
            )
            self._folder.close(last, seconds)

    def _brought_back(self, key: bytes, scope: Scope, tokens: memoryview) -> State | None:
        """Return a state from the folder, which is in memory from now on."""
        state = None if self._folder is None else self._folder.find(key, scope, tokens)
        if state is not None:
            self._keep(key, _Entry(scope, bytes(tokens), state))
        return state

    def _keep(self, key: bytes, entry: _Entry) -> None:
        if key in self._entries:
            self._forget(key)
        self._entries[key] = entry
        lengths, n_tokens = self._lengths[entry.scope], len(entry.tokens) // 4
        lengths[n_tokens] = lengths.get(n_tokens, 0) + 1
        self.n_bytes += entry.n_bytes
        while self.n_bytes > self.max_bytes:
            oldest, gone = next(iter(self._entries.items()))
            if self._folder is not None:
                self._folder.put(oldest, gone.scope, gone.tokens, gone.state)
            self._forget(oldest)

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.n_bytes -= entry.n_bytes
        lengths, n_tokens = self._lengths[entry.scope], len(entry.tokens) // 4
        lengths[n_tokens] -= 1
        if not lengths[n_tokens]:
            del lengths[n_tokens]
        if not lengths:
            del self._lengths[entry.scope]


def model_key(lm: LanguageModel) -> str:
    """Return a word for all that the bits of a state depend on, beside the tokens that it has seen.

    These are the weights, how they are rounded and laid out, where they are, and the state that
    the model starts from.
    """
    total = blake2b(lm.fingerprint.encode(), digest_size=32)
    for name, tensor in lm.model.state_dict().items():
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)} {tensor.device}\n".encode())
    for tensor in lm.start_state(None).tensors.values():
        total.update(tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _packed(tokens: Sequence[int]) -> bytes:
    """Return four bytes for each token."""
    return array("i", tokens).tobytes()


def _hash_of(scope: Scope) -> blake2b:
    """Return a hash of a scope that is ready for tokens."""
    name = repr(scope).encode()
    return blake2b(len(name).to_bytes(8, "little") + name, digest_size=32)
