"""A prompt on its way through the model: what is fed of it, and what is to be told of it."""

import operator
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from receptance.inference.language_model import CHUNK_TOKENS, LanguageModel
from receptance.inference.logprobs import TokenLogprobs, token_logprobs
from receptance.inference.prefix_cache import CHECKPOINT_TOKENS, PrefixCache, Scope
from receptance.inference.prompt import Chunks, Prompt, check_tokens
from receptance.inference.request import PromptRead, Request
from receptance.inference.runner import Runner

# Logits of so many tokens of a prompt are there at once: of a large vocabulary, some megabytes.
_BLOCK_TOKENS = 16


@dataclass(frozen=True)
class Memory:
    """Where the states of a prompt are remembered, and in whose scope."""

    cache: PrefixCache
    scope: Scope


class PromptReader:
    """Reads the prompt of one request, a chunk each time, into a slot."""

    def __init__(
        self,
        request: Request,
        lm: LanguageModel,
        *,
        chunk_tokens: int | None,
        memory: Memory | None = None,
    ) -> None:
        """Open the prompt.

        Args:
            request: What is to be read, and what is to be told of it.
            lm: What reads it.
            chunk_tokens: How many tokens a chunk has; None is as in all calls of `lm`.
            memory: What may know the state after a part of it.

        Raises:
            ValueError: As `LanguageModel.open_prompt`, and if the state is of several sequences.
            TokenizerError: As there.
        """
        self.state = lm.start_state(request.state)
        """What the first chunk is fed to."""
        self._lm = lm
        self._chunk_tokens = chunk_tokens
        self._n_top = request.prompt_logprobs
        self._wants_features = request.wants_features
        self._logprobs: list[TokenLogprobs | None] = []
        self._features: Tensor | None = None
        self._logits: Tensor | None = None
        self._remembered_features: Tensor | None = None
        self._cached_tokens = 0
        self._tokens = array("i")
        is_whole = request.state is None and isinstance(request.prompt, Sequence)
        if memory is not None and is_whole:
            self._tokens = self._all_tokens(request.prompt)
        self._memory = memory if self._tokens else None
        if self._memory is None:
            self._chunks = lm.open_prompt(request.prompt, request.state, chunk_tokens=chunk_tokens)
        else:
            self._chunks = self._chunks_from(0)

    @property
    def is_over(self) -> bool:
        """Whether all was fed."""
        return self._chunks.is_over

    @property
    def n_tokens(self) -> int:
        """How many tokens of the prompt were read, or remembered."""
        return self._cached_tokens + self._chunks.n_tokens

    def remember(self) -> Sequence[int]:
        """Go on from the longest part of the prompt whose state is remembered.

        Returns:
            The tokens that need not be fed. None, if all logprobs are wanted.
        """
        if self._memory is None or self._n_top is not None:
            return []
        found = self._memory.cache.find(self._memory.scope, self._tokens)
        if found is None:
            return []
        self._cached_tokens, self.state = found.n_tokens, found.state
        if found.n_tokens == len(self._tokens):
            self._remembered_features = found.features
        self._chunks = self._chunks_from(self._cached_tokens)
        return self._tokens[: self._cached_tokens]

    def next_chunk(self) -> tuple[list[int], list[int]]:
        """Return what is to be fed next, and what of it are tokens of the prompt.

        Nothing, once, if all of the prompt is remembered.

        Raises:
            ValueError: If a token is not in the vocabulary.
            TypeError: If one is no integer.
        """
        if self._remembered_features is not None:
            return [], []
        chunk = next(self._chunks)
        return chunk, [] if self._chunks.is_stand_in else chunk

    def feed(self, runner: Runner, slot: int, chunk: Sequence[int]) -> Float[Tensor, " V"]:
        """Feed a chunk and return the logits after it.

        Args:
            runner: Of the model's weights.
            slot: Where the state is.
            chunk: What `next_chunk` gave.
        """
        if self._remembered_features is not None:
            self._features = self._remembered_features
            return runner.head(self._remembered_features[None], self._lm.model)[0]
        logits = self._logits = self._feed(runner, slot, chunk)
        if self._memory is not None:
            n = self.n_tokens
            if self.is_over or n % CHECKPOINT_TOKENS == 0:
                state = runner.pool.read(slot)
                self._memory.cache.put(self._memory.scope, self._tokens[:n], state, self._features)
        return logits

    def told(self) -> PromptRead:
        """Return what is known of the prompt, once all was fed."""
        logprobs = None if self._n_top is None else tuple(self._logprobs)
        features = None
        if self._wants_features and self._features is not None:
            features = self._features.float().clone()  # the cache keeps its own
        return PromptRead(
            n_tokens=self.n_tokens,
            cached_tokens=self._cached_tokens,
            logprobs=logprobs,
            features=features,
        )

    def _feed(self, runner: Runner, slot: int, chunk: Sequence[int]) -> Float[Tensor, " V"]:
        """Feed a chunk, and note what is to be told of it."""
        model = self._lm.model
        wants_features = self.is_over and (self._wants_features or self._memory is not None)
        if self._n_top is None and not wants_features:
            return runner.prefill(slot, chunk, model)
        features = runner.prefill_features(slot, chunk, model)
        if wants_features:
            self._features = features[-1].clone()
        if self._n_top is not None and not self._chunks.is_stand_in:
            self._note_logprobs(runner, features, chunk, self._n_top)
        # Of one row, as the forward of a whole prompt computes it.
        return runner.head(features[-1:], model)[0]

    def _chunks_from(self, n_before: int) -> Chunks:
        """Return the tokens from one on, cut where states are to be remembered."""
        return Chunks(
            self._tokens[n_before:],
            chunk_tokens=self._chunk_tokens or CHUNK_TOKENS,
            vocab_size=self._lm.model.config.vocab_size,
            cut_at=CHECKPOINT_TOKENS,
            n_before=n_before,
        )

    def _all_tokens(self, prompt: Prompt) -> "array[int]":
        """Return a prompt's tokens, each in four bytes."""
        ids = self._lm.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        tokens = [operator.index(token) for token in ids]
        check_tokens(tokens, self._lm.model.config.vocab_size)
        return array("i", tokens)

    def _note_logprobs(
        self, runner: Runner, features: Float[Tensor, "T C"], chunk: Sequence[int], n_top: int
    ) -> None:
        """Note how likely each token of a chunk was by the logits before it."""
        vocab_size = self._lm.tokenizer.vocab_size
        first = None
        if self._logits is not None:
            first = token_logprobs(self._logits, chunk[0], n_top, vocab_size)
        self._logprobs.append(first)
        n = len(chunk) - 1
        for start, end in pairwise([*range(0, n, _BLOCK_TOKENS), n]):
            # All rows come to the CPU at once.
            logits = runner.head(features[start:end], self._lm.model).cpu()
            self._logprobs += [
                token_logprobs(row, token, n_top, vocab_size)
                for row, token in zip(logits, chunk[start + 1 : end + 1], strict=True)
            ]
