"""Law 3: a sequence is decoded as it is alone, bit for bit, whatever shares its batch."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from receptance.inference import Engine, LanguageModel, Request, SamplingParams
from receptance.models import RWKV4
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4, random_tokens

V = 256
BATCHES = [1, 2, 3, 16, 33]
EXACT = random_rwkv4(2, 16, V, dtype=torch.float64)
# As wide as blocks of registers and of the cache are, and a little more.
SINGLE = random_rwkv4(2, 72, V)


def decoded(model: RWKV4, tokens: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Return the logits [rows, T, V] of the sequences at `rows`, fed together token by token."""
    pool, slots, packed = model.zero_state(len(rows)), torch.arange(len(rows)), model.pack()
    with torch.inference_mode():
        steps = [packed.step(tokens[rows, t], pool, slots) for t in range(tokens.shape[1])]
    return torch.stack(steps, dim=1)


@cache
def texts(model: RWKV4, n: int, *, max_sequences: int) -> list[tuple[int, ...]]:
    """Return n texts from prompts of many lengths, written at most `max_sequences` at once."""
    lm = LanguageModel(model, load_tokenizer("bytes"))
    engine = Engine(lm, max_sequences=max_sequences, chunk_tokens=4, poison=True)
    for row in range(n):
        params = SamplingParams(
            seed=row, max_tokens=4, temperature=float(row % 2), logit_bias={0: -100.0}
        )
        engine.add(Request(random_tokens(1, 1 + row % 9, V, seed=row)[0].tolist(), params))
    found = {}
    while engine.n_running + engine.n_waiting:
        for output in engine.step():
            if output.generation is not None:
                found[output.id] = output.generation.tokens
    return [found[id_] for id_ in sorted(found)]


@pytest.mark.parametrize("n", BATCHES)
def test_texts_written_together_are_the_texts_written_alone(n):
    assert texts(EXACT, n, max_sequences=n) == texts(EXACT, max(BATCHES), max_sequences=1)[:n]


@pytest.mark.parametrize("n", BATCHES)
def test_texts_are_the_same_in_single_precision(n):
    assert texts(SINGLE, n, max_sequences=n) == texts(SINGLE, max(BATCHES), max_sequences=1)[:n]


@pytest.mark.parametrize("n", BATCHES)
def test_logits_of_a_batch_are_the_logits_alone_to_the_last_bit(n):
    tokens = random_tokens(n, 3, V)

    together = decoded(SINGLE, tokens, list(range(n)))

    for row in range(n):
        assert torch.equal(together[row : row + 1], decoded(SINGLE, tokens, [row])), row


@pytest.mark.parametrize("ends", [[1], [4, 5], [2, 7, 8, 9]])
def test_however_a_prompt_is_cut_its_logits_are_the_same_to_the_last_bit(ends):
    tokens = random_tokens(1, 12, V)
    with torch.inference_mode():
        expected, _ = SINGLE(tokens, last_only=True)
        state = None
        for start, end in pairwise([0, *ends]):
            _, state = SINGLE(tokens[:, start:end], state, last_only=True)
        logits, _ = SINGLE(tokens[:, ends[-1] :], state, last_only=True)

    assert torch.equal(logits, expected)
