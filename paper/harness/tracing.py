"""Causal tracing (Meng et al. 2022, arXiv:2202.05262): where a model has what it recalls.

A clean run is recorded; then the embeddings of the subject are disturbed by noise, and the output
of one layer at one token is put back. Where that brings the answer back, it was there.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.inference import LanguageModel
from receptance.tokenizer import Tokenizer

N_NOISES = 10
NOISE = 3.0
"""Of the standard deviation of the subjects' embeddings."""


class Fact(NamedTuple):
    """A prompt, whose answer depends on its subject."""

    prompt: str
    subject: str
    answer: str


class Trace(NamedTuple):
    """The log-probability of the answer, all its tokens together."""

    tokens: list[str]
    """Of the prompt."""
    subject: tuple[int, int]
    """The first token of the subject, and the first after it."""
    clean: float
    corrupted: float
    """Of the mean probability over several noises, as all below."""
    restored: list[list[float]]
    """Of each layer, of each token."""


def subject_span(fact: Fact, tokenizer: Tokenizer) -> tuple[int, int]:
    """Return the tokens of the prompt that have some of the subject, as first and end.

    Raises:
        ValueError: If the subject is not in the prompt.
    """
    place = fact.prompt.encode().find(fact.subject.encode())
    if place < 0:
        raise ValueError(f"the subject must be in {fact.prompt!r}, got {fact.subject!r}")
    tokens = tokenizer.encode(fact.prompt)
    ends = [len(tokenizer.decode_bytes(tokens[: index + 1])) for index in range(len(tokens))]
    end = place + len(fact.subject.encode())
    first = next(index for index, each in enumerate(ends) if each > place)
    return first, next(index for index, each in enumerate(ends) if each >= end) + 1


def embedding_deviation(lm: LanguageModel, facts: list[Fact]) -> float:
    """Return the standard deviation of the numbers in the embeddings of all subjects' tokens."""
    tokens = []
    for fact in facts:
        first, end = subject_span(fact, lm.tokenizer)
        tokens += lm.tokenizer.encode(fact.prompt)[first:end]
    with torch.no_grad():
        return float(lm.model.emb(torch.tensor(tokens)).float().std())


def trace(lm: LanguageModel, fact: Fact, deviation: float) -> Trace:
    """Return what restoring each layer at each token of the prompt brings back.

    Args:
        lm: The model.
        fact: The fact; the answer is fed after the prompt, and a space.
        deviation: What the noise is three times of.
    """
    prompt = lm.tokenizer.encode(fact.prompt)
    answer = lm.tokenizer.encode(" " + fact.answer)
    first, end = subject_span(fact, lm.tokenizer)
    run = _Run(lm, prompt, answer)
    generator = torch.Generator().manual_seed(0)
    size = N_NOISES, end - first, lm.model.config.n_embd
    noise = NOISE * deviation * torch.randn(size, generator=generator)
    with torch.no_grad(), run.recorded() as clean_outputs:
        clean = float(run.answer(1))
    with torch.no_grad(), run.corrupted(noise, first):
        corrupted = _mean(run.answer(N_NOISES))
        restored = []
        for layer, outputs in enumerate(clean_outputs):
            row = []
            for place in range(len(prompt)):
                with run.restored(layer, place, outputs[0, place]):
                    row.append(round(_mean(run.answer(N_NOISES)), 4))
            restored.append(row)
    texts = [lm.tokenizer.decode_bytes([each]).decode(errors="replace") for each in prompt]
    return Trace(texts, (first, end), round(clean, 4), round(corrupted, 4), restored)


def _mean(logprobs: Float[Tensor, " B"]) -> float:
    return float(logprobs.logsumexp(0)) - math.log(len(logprobs))


class _Run:
    """A prompt and its answer, read by a model between whose layers one can reach."""

    def __init__(self, lm: LanguageModel, prompt: list[int], answer: list[int]) -> None:
        self._model = lm.model
        self._start = lm.start_state(None)
        self._tokens = torch.tensor([*prompt, *answer[:-1]])
        self._answer = torch.tensor(answer)
        self._begin = len(prompt) - 1

    def answer(self, batch: int) -> Float[Tensor, " B"]:
        """Return the log-probability of the answer in so many rows of the same tokens."""
        start: Any = self._start.select([0] * batch)
        logits, _ = self._model(self._tokens.expand(batch, -1), start)
        logprobs = logits[:, self._begin :].double().log_softmax(-1)
        chosen = self._answer.expand(batch, -1)[..., None]
        return logprobs.gather(-1, chosen)[..., 0].sum(-1)

    @contextmanager
    def recorded(self) -> Iterator[list[Tensor]]:
        """Fill a list with the output of each layer, [B, T, C]."""
        outputs: list[Tensor] = []

        def note(_block: Any, _arguments: Any, result: tuple[Tensor, Any]) -> None:
            outputs.append(result[0].clone())

        hooks = [block.register_forward_hook(note) for block in self._model.blocks]
        yield outputs
        for hook in hooks:
            hook.remove()

    @contextmanager
    def corrupted(self, noise: Float[Tensor, "B n C"], first: int) -> Iterator[None]:
        """Add noise to the embeddings from the token `first` on."""

        def disturb(_embedding: Any, _arguments: Any, result: Tensor) -> Tensor:
            result = result.clone()
            result[:, first : first + noise.shape[1]] += noise.to(result.dtype)
            return result

        hook = self._model.emb.register_forward_hook(disturb)
        yield
        hook.remove()

    @contextmanager
    def restored(self, layer: int, place: int, clean: Float[Tensor, " C"]) -> Iterator[None]:
        """Put back what a layer gave at a token."""

        def put_back(
            _block: Any, _arguments: Any, result: tuple[Tensor, Any]
        ) -> tuple[Tensor, Any]:
            x = result[0].clone()
            x[:, place] = clean
            return x, result[1]

        hook = self._model.blocks[layer].register_forward_hook(put_back)
        yield
        hook.remove()
