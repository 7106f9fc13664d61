"""A model and its tokenizer: text and tokens in, text, logits and states out."""

import copy
import operator
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.checkpoint import load_checkpoint
from receptance.errors import StateError, TokenizerError
from receptance.inference.generation import Generation, Start, TextStream, generate_pieces
from receptance.inference.sampling import Sampler, SamplingParams, TokenHistory
from receptance.models import RWKV4, State
from receptance.tokenizer import Tokenizer

CHUNK_TOKENS = 256
"""How many tokens go through the model at once: many enough for matrices to be fast, and few
enough for the memory that they take to be small beside the weights."""

Prompt = str | Iterable[SupportsIndex]
"""A text, or tokens: any integers, from a list or from a stream that does not fit in memory."""


def load(
    path: str | Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    device: str = "cpu",
    tokenizer: Tokenizer | str | Path | None = None,
) -> "LanguageModel":
    """Return the language model at `path`: a model folder, or an authors' .pth file of RWKV-4.

    Args:
        path: The folder or file. An initial_state.safetensors in the folder becomes the state
            from which the model starts.
        dtype: Of the matrices, "float32" or "bfloat16"; None is as stored, except that float16
            becomes float32.
        quantize: What the matrices are rounded to while they are read, "int8" or "int4"; None is
            as stored. It excludes `dtype`.
        device: Where the model computes, such as "cpu" or "cuda".
        tokenizer: A tokenizer, or a source for `load_tokenizer`; None is the one beside the
            weights.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged, hostile or of another model.
        StateError: If the initial state is damaged or of another model.
        TokenizerError: If the tokenizer cannot be read.
        ValueError: If `dtype` or `quantize` is unknown, or both are given, or `device` is not
            there.
    """
    checked_device = _device(device)
    checkpoint = load_checkpoint(path, dtype=dtype, quantize=quantize, tokenizer=tokenizer)
    model = checkpoint.model.to(checked_device)
    lm = LanguageModel(model, checkpoint.tokenizer, path=checkpoint.path)
    if checkpoint.initial_state is None:
        return lm
    return lm.starting_from(lm.load_state(checkpoint.initial_state))


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
    ) -> None:
        """Join a model and a tokenizer.

        Args:
            model: The model. It must not be changed afterwards.
            tokenizer: Its tokenizer; None for a model that takes and gives only tokens.
            path: Where the model came from.
            initial_state: The state that `state=None` means; None is the zero state.
            chunk_tokens: How many tokens go through the model at once, counted from the start of
                each call. Memory is constant however long a text is.

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

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            TokenizerError: If the model came without one.
        """
        if self._tokenizer is None:
            raise TokenizerError(
                f"text needs a tokenizer, but the model at {str(self.path)!r} came without one; "
                "pass it to `load` as `tokenizer` (to a command as --tokenizer): 'bytes', or the "
                "path of a tokenizer.json or of a World vocabulary"
            )
        return self._tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """The hash that states of this model carry; the first use reads all weights."""
        return self.model.fingerprint()

    def zero_state(self) -> State:
        """Return the state that has seen nothing."""
        return self._signed(self.model.zero_state(1))

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
        return self._signed(state)

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
            ValueError: If there is no token, one is not in the vocabulary, or `state` is of more
                than one sequence or of another model.
        """
        logits, state, _ = self._feed(tokens, state)
        if logits is None:
            raise ValueError(_NO_TOKENS)
        return logits, state

    def prefill(self, prompt: Prompt, state: State | None = None) -> State:
        """Return the state after a prompt, in constant memory however long it is.

        Args:
            prompt: A text or tokens. If empty, and without a state, the token that ends a text.
            state: What came before. Not modified.

        Raises:
            ValueError: If `prompt` is empty and there is a state, or as `forward`.
            TokenizerError: If `prompt` is text and the model has no tokenizer.
        """
        return self._start(prompt, state)[1]

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
        params = replace(params or SamplingParams(), **options)
        tokenizer = self.tokenizer
        sampler = Sampler(params, tokenizer.vocab_size)
        # Counting a prompt for nothing would cost more than its tokenization.
        counted = sampler.history if params.repetition_penalty != 1 else None
        logits, state, n_tokens = self._start(prompt, state, counted)
        start = Start(logits, state, n_tokens)
        return TextStream(generate_pieces(self.forward, tokenizer, sampler, start))

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
        logits, state, _ = self._start(context, state)
        last = logits[None]
        logprobs: list[float] = []
        for chunk in self._chunks(self._tokens(continuation)):
            # Each token is predicted by the logits before it: those of this chunk, shifted by one.
            with torch.no_grad():
                logits, state = self.model(chunk, state)
                predicted = torch.cat([last, logits[0, :-1]]).log_softmax(-1)
                chosen = predicted.gather(1, chunk[0][:, None])[:, 0]
            logprobs += [float(number) for number in chosen.cpu()]
            last = logits[0, -1:]
        return logprobs

    def _start(
        self, prompt: Prompt, state: State | None, history: TokenHistory | None = None
    ) -> tuple[Float[Tensor, " V"], State, int]:
        """Feed a prompt: the logits after it, the state, and how many tokens it had."""
        logits, new_state, n_tokens = self._feed(self._tokens(prompt), state, history)
        if logits is not None:
            return logits, new_state, n_tokens
        if state is not None:
            raise ValueError(_EMPTY_PROMPT)
        end_of_text = 0 if self._tokenizer is None else self._tokenizer.end_of_text
        return *self.forward([end_of_text]), 0

    def _feed(
        self,
        tokens: Iterable[SupportsIndex],
        state: State | None,
        history: TokenHistory | None = None,
    ) -> tuple[Float[Tensor, " V"] | None, State, int]:
        """Feed tokens in chunks: the last logits (None without a token), the state, the count."""
        current = self._initial_state if state is None else state
        current = self.zero_state() if current is None else current
        if current.batch_size != 1:
            raise ValueError(
                "`state` must be the memory of one sequence, got one of "
                f"{current.batch_size}; take one out of it by `state.select([row])`"
            )
        logits, n_tokens = None, 0
        for chunk in self._chunks(tokens):
            with torch.no_grad():
                all_logits, current = self.model(chunk, current, last_only=True)
            logits = all_logits[0, -1]
            n_tokens += chunk.shape[1]
            if history is not None:
                history.add_prompt_(chunk[0].cpu())
        return logits, self._signed(current), n_tokens

    def _signed(self, state: State) -> State:
        """Return the state with what it needs to be saved."""
        return replace(state, fingerprint=lambda: self.fingerprint)

    def _chunks(self, tokens: Iterable[SupportsIndex]) -> Iterator[Tensor]:
        """Yield the tokens as [1, T], T at most `chunk_tokens`; refuse those of no vocabulary."""
        device, vocab_size = self.model.emb.weight.device, self.model.config.vocab_size
        stream = iter(tokens)
        while chunk := [operator.index(token) for token in islice(stream, self._chunk_tokens)]:
            if min(chunk) < 0 or max(chunk) >= vocab_size:
                wrong = next(token for token in chunk if not 0 <= token < vocab_size)
                raise ValueError(
                    f"tokens must be from 0 to {vocab_size - 1}, as the model's vocabulary is, "
                    f"got {wrong}"
                )
            yield torch.tensor([chunk], device=device)

    def _tokens(self, prompt: Prompt) -> Iterable[SupportsIndex]:
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt


_NO_TOKENS = "`tokens` must hold at least one token, got none"
_EMPTY_PROMPT = (
    "`prompt` must hold at least one token when there is a `state`: a state predicts nothing until "
    "a token is fed; pass the text that comes next"
)


def _device(name: str) -> torch.device:
    """Return the device, if it is there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"`device` must be one such as 'cpu' or 'cuda', got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` must be there, but PyTorch sees no GPU for {name!r}; use 'cpu'")
    return device
