"""A model and its tokenizer: text and tokens in, text, logits and states out."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.checkpoint import missing_tokenizer
from receptance.errors import StateError, TokenizerError
from receptance.inference.generation import Draft, Generation, TextStream, generate_pieces
from receptance.inference.impossible import ImpossibleRequestError
from receptance.inference.loaded_adapter import LoadedAdapter, read_loaded_adapter
from receptance.inference.prompt import Chunks, Prompt
from receptance.inference.runner import Runner
from receptance.inference.sampler import Sampler
from receptance.inference.sampling import SamplingParams
from receptance.inference.shared_weights import SharedWeights
from receptance.inference.state_pool import StatePool
from receptance.models import RWKV4, LowRankChanges, PackedModel, State
from receptance.tokenizer import Tokenizer

CHUNK_TOKENS = 512
"""How many tokens go through the model at once: many enough for matrices to be fast, and few
enough for the memory that they take to be small beside the weights."""


class LanguageModel:
    """A model and its tokenizer, ready to use.

    Every call takes the state of what came before and gives a new one; none changes a state, so
    one can be kept, used many times and saved. `state=None` is the start: the initial state that
    came with the model, or else the zero state. A state predicts nothing until a token is fed: an
    empty prompt is refused with a state, and without one it begins with the token that ends a
    text, after which a new text begins.
    """

    def __init__(
        self,
        model: RWKV4,
        tokenizer: Tokenizer | None,
        *,
        path: Path | None = None,
        initial_state: State | None = None,
        chunk_tokens: int = CHUNK_TOKENS,
        skips_zeros: bool = False,
    ) -> None:
        """Join a model and a tokenizer.

        Args:
            model: The model. It must not be changed afterwards.
            tokenizer: Its tokenizer; None for a model that takes and gives only tokens.
            path: Where the model came from.
            initial_state: The state that `state=None` means; None is the zero state.
            chunk_tokens: How many tokens go through the model at once, counted from the start of
                each call. Memory is constant however long a text is.
            skips_zeros: Whether the model may be laid out anew to decode faster, after which it
                cannot be trained: see `RWKV4.pack`. `load` does so.

        Raises:
            ValueError: If the tokenizer has more tokens than the model's vocabulary.
        """
        if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"`tokenizer` must have at most the {model.config.vocab_size} tokens of the model, "
                f"got {tokenizer.vocab_size}"
            )
        self.model = model
        self.path = path
        self._weights = SharedWeights(model, skips_zeros=skips_zeros)
        self._adapter: LoadedAdapter | None = None
        self._tokenizer = tokenizer
        self._initial_state = initial_state
        self._chunk_tokens = chunk_tokens

    def __repr__(self) -> str:
        name = None if self._tokenizer is None else self._tokenizer.name
        return f"LanguageModel({self.model.config}, tokenizer={name!r}, path={str(self.path)!r})"

    def starting_from(self, state: State) -> "LanguageModel":
        """Return this language model, on the same weights, with `state` as its start."""
        other = copy.copy(self)
        other._initial_state = state
        return other

    def load_adapter(self, path: str | Path) -> LoadedAdapter:
        """Return an adapter that was trained for these weights, to be computed with unmerged.

        The first one reads all weights, for their fingerprint.

        Raises:
            CheckpointError: If the file is missing or damaged, or is of other weights.
        """
        return read_loaded_adapter(path, self._weights)

    def with_adapter(self, adapter: LoadedAdapter) -> "LanguageModel":
        """Return the language model that these weights are with an adapter, which is not merged.

        It shares all weights with this one, and is a model of its own: what it makes carries the
        fingerprint of both, and a state that was saved without the adapter, or with another, is
        refused by its `load_state`. A state in memory is taken whatever made it. Its start is the
        zero state, with which adapters are trained, and not the initial state that came with the
        weights; `starting_from` gives it another. An adapter that this one has is left out.

        Args:
            adapter: Of these weights: what `load_adapter` gave.

        Raises:
            ValueError: If it is of other weights, or on another device.
        """
        adapter.require_fit(self._weights)
        other = copy.copy(self)
        other._adapter = adapter
        other._initial_state = None
        other.model = self._weights.changed(adapter.changes)
        return other

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            TokenizerError: If the model came without one.
        """
        if self._tokenizer is None:
            raise TokenizerError(missing_tokenizer(self.path, self.model.config.vocab_size))
        return self._tokenizer

    @property
    def packed(self) -> PackedModel:
        """The weights made ready to decode, without `changes`; the first use makes it."""
        return self._weights.packed

    @property
    def changes(self) -> LowRankChanges | None:
        """What the adapter changes in a step of `packed`; None without one."""
        return None if self._adapter is None else self._adapter.changes

    @property
    def fingerprint(self) -> str:
        """The hash that states of this model carry; the first use reads all weights."""
        return self._weights.fingerprint if self._adapter is None else self._adapter.fingerprint

    def signed(self, state: State) -> State:
        """Return a state that this model made, to be saved as one of its own."""
        return replace(state, fingerprint=lambda: self.fingerprint)

    def zero_state(self) -> State:
        """Return the state that has seen nothing."""
        return self.signed(self.model.zero_state(1))

    def load_state(self, path: str | Path) -> State:
        """Return a state that was saved with this model.

        Raises:
            StateError: If the file is missing, damaged, of another model, or of more than one
                sequence.
        """
        like = self.model.zero_state(1)
        state = type(like).load(path, like=like, fingerprint=self.fingerprint)
        if state.batch_size != 1:
            raise StateError(
                f"{str(path)!r} must hold the state of one sequence, but it holds "
                f"{state.batch_size}"
            )
        return self.signed(state)

    def forward(
        self, tokens: Iterable[SupportsIndex], state: State | None = None
    ) -> tuple[Float[Tensor, " V"], State]:
        """Return the logits of the token after `tokens`, and the state after them.

        Args:
            tokens: At least one.
            state: What came before. Not modified.

        Returns:
            Logits in float32 on the model's device, and a new state.

        Raises:
            ValueError: If there is none, one is unknown, or `state` is not one sequence's of this.
        """
        chunks = self._chunks(tokens)
        if chunks.is_over:
            raise ValueError(_NO_TOKENS)
        return self._read(chunks, self.start_state(state))

    def prefill(self, prompt: Prompt, state: State | None = None) -> State:
        """Return the state after a prompt, in constant memory however long it is.

        Args:
            prompt: A text or tokens. If empty, and without a state, the token that ends a text.
            state: What came before. Not modified.

        Raises:
            ValueError: If `prompt` is empty and there is a state, or as `forward`.
            TokenizerError: If `prompt` is text and the model has no tokenizer.
        """
        return self._read(self.open_prompt(prompt, state), self.start_state(state))[1]

    def generate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        state: State | None = None,
        **options: Any,
    ) -> Generation:
        """Return the text that the model writes after a prompt, and the state after it.

        Args:
            prompt: A text or tokens. If empty, and without a state, the model begins a new text.
            params: How to choose tokens, and when to end.
            state: What came before. Not modified.
            options: Fields of `SamplingParams`, such as `max_tokens` and `temperature`, that are
                to differ from `params`.

        Raises:
            ValueError: If an option is out of its range, or as `prefill`.
            TypeError: If an option is unknown.
            TokenizerError: If the model has no tokenizer.
        """
        return self.stream(prompt, params, state=state, **options).read()

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        state: State | None = None,
        **options: Any,
    ) -> TextStream:
        """Return the text of `generate` in pieces as they come, then as `.generation` the whole.

        The prompt is fed before this returns, so all that is wrong with the arguments is raised
        here. Args and Raises as `generate`.
        """
        tokenizer, params = self.tokenizer, replace(params or SamplingParams(), **options)
        sampler = Sampler(params, tokenizer.vocab_size)
        chunks = self.open_prompt(prompt, state)
        pool = StatePool(self.zero_state(), 1)
        runner = Runner(self.packed, pool)
        slot = pool.acquire()
        pool.write(slot, self.start_state(state))
        logits = None
        for chunk in chunks:
            logits = runner.prefill(slot, chunk, self.model)
            if not chunks.is_stand_in:
                sampler.add_prompt(chunk)
        assert logits is not None  # a prompt that was opened has a chunk

        def step(token: int) -> Float[Tensor, " V"]:
            return runner.decode([slot], [token], [self.changes])[0]

        draft = Draft(tokenizer, sampler, chunks.n_tokens, partial(pool.read, slot))
        return TextStream(generate_pieces(draft, logits, step, self.forward))

    def score(
        self, context: Prompt, continuation: Prompt, state: State | None = None
    ) -> list[float]:
        """Return ln p of every token of `continuation`, each given all that comes before it.

        Two texts are tokenized apart, as they would be if the context were fed first and only its
        state kept; a pair that should be one token across the border is to be passed as tokens.

        Args:
            context: A text or tokens. If empty, and without a state, the token that ends a text.
            continuation: A text or tokens.
            state: What came before the context. Not modified.

        Raises:
            ValueError: If `context` is empty and there is a state, or as `forward`.
            TokenizerError: If one is text and the model has no tokenizer.
        """
        logits, state = self._read(self.open_prompt(context, state), self.start_state(state))
        last = logits[None]
        logprobs: list[float] = []
        for chunk in self._chunks(self._tokens(continuation)):
            tokens = torch.tensor([chunk], device=last.device)
            # Each token is predicted by the logits before it: those of this chunk, shifted by one.
            with torch.no_grad():
                logits, state = self.model(tokens, state)
                predicted = torch.cat([last, logits[0, :-1]]).log_softmax(-1)
                chosen = predicted.gather(1, tokens[0][:, None])[:, 0]
            logprobs += [float(number) for number in chosen.cpu()]
            last = logits[0, -1:]
        return logprobs

    def start_state(self, state: State | None) -> State:
        """Return the state that a call with `state` begins from: its own, or the model's start.

        Raises:
            ImpossibleRequestError: If `state` is of more than one sequence.
        """
        start = self._initial_state if state is None else state
        start = self.zero_state() if start is None else start
        if start.batch_size != 1:
            raise ImpossibleRequestError(
                "`state` must be the memory of one sequence, got one of "
                f"{start.batch_size}; take one out of it by `state.select([row])`"
            )
        return start

    def open_prompt(
        self, prompt: Prompt, state: State | None, *, chunk_tokens: int | None = None
    ) -> Chunks:
        """Return what is fed of a prompt, in chunks: at least one.

        Args:
            prompt: A text or tokens. If empty, and without a state, the token that ends a text is
                fed; it is not counted.
            state: What comes before it.
            chunk_tokens: How many tokens a chunk has; None is as in all calls.

        Raises:
            ImpossibleRequestError: If `prompt` is empty and there is a state, or a token at its
                beginning is not in the vocabulary.
            TokenizerError: If `prompt` is text and the model has no tokenizer.
        """
        end_of_text = 0 if self._tokenizer is None else self._tokenizer.end_of_text
        if_empty = [end_of_text] if state is None else []
        chunks = self._chunks(self._tokens(prompt), chunk_tokens, if_empty)
        if chunks.is_over:
            raise ImpossibleRequestError(_EMPTY_PROMPT)
        return chunks

    def _read(self, chunks: Chunks, state: State) -> tuple[Float[Tensor, " V"], State]:
        """Feed at least one chunk: the logits after the last one, and the state."""
        device = self.model.emb.weight.device
        logits = None
        for chunk in chunks:
            with torch.no_grad():
                tokens = torch.tensor([chunk], device=device)
                logits, state = self.model(tokens, state, last_only=True)
        assert logits is not None
        return logits[0, -1], self.signed(state)

    def _chunks(
        self,
        tokens: Iterable[SupportsIndex],
        chunk_tokens: int | None = None,
        if_empty: Sequence[int] = (),
    ) -> Chunks:
        return Chunks(
            tokens,
            chunk_tokens=self._chunk_tokens if chunk_tokens is None else chunk_tokens,
            vocab_size=self.model.config.vocab_size,
            if_empty=if_empty,
        )

    def _tokens(self, prompt: Prompt) -> Iterable[SupportsIndex]:
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt


_NO_TOKENS = "`tokens` must hold at least one token, got none"
_EMPTY_PROMPT = (
    "`prompt` must hold at least one token when there is a `state`: a state predicts nothing until "
    "a token is fed; pass the text that comes next"
)
