"""Law 3: a sequence is decoded as it is alone, bit for bit, whatever shares its batch."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from receptance.inference import Engine, LanguageModel, Request, SamplingParams
from receptance.models import RWKV4
from receptance.tokenizer import load_tokenizer
from tests.inference.constraints import OneOf
from tests.inference.engine_runs import run
from tests.random_models import random_rwkv4, random_tokens, with_matrices

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


def asked_for(row: int) -> Request:
    """Return a request that wants more than text, in a way of its own."""
    params = SamplingParams(
        seed=row,
        max_tokens=4 * (row % 3),
        temperature=float(row % 2),
        typical_p=0.9 if row % 4 else 1.0,
        frequency_penalty=0.5 * (row % 2),
        penalty_decay=0.9,
        logit_bias={0: -100.0},
    )
    return Request(
        random_tokens(1, 1 + row % 9, V, seed=row)[0].tolist(),
        params,
        constraint=(lambda: OneOf([b"abc", b"xy"], V)) if row % 3 == 1 else None,
        logprobs=3 if row % 2 else None,
        prompt_logprobs=1 if row % 5 == 0 else None,
        wants_features=row % 4 == 0,
    )


def told(lm: LanguageModel, n: int, *, max_sequences: int) -> dict[int, list[object]]:
    """Return all that n requests are told, and the bits of their last states."""
    engine = Engine(lm, max_sequences=max_sequences, chunk_tokens=4, poison=True)
    rows = {engine.add(asked_for(row)): row for row in range(n)}
    found: dict[int, list[object]] = {row: [] for row in range(n)}
    for id_, outputs in run(engine).items():
        read, generation = outputs[0].prompt, outputs[-1].generation
        assert read is not None
        assert generation is not None
        features = None if read.features is None else read.features.tolist()
        state = [tensor.tolist() for tensor in generation.state.tensors.values()]
        found[rows[id_]] = [(each.token, each.text, each.logprobs) for each in outputs]
        found[rows[id_]] += [read.n_tokens, read.logprobs, features, state]
        found[rows[id_]] += [generation.tokens, generation.finish_reason]
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whatever_else_is_asked_is_told_as_it_is_alone(dtype):
    model = with_matrices(random_rwkv4(2, 72, V), dtype)
    lm = LanguageModel(model, load_tokenizer("bytes"))
    n = 20

    alone = told(lm, n, max_sequences=1)

    assert told(lm, n, max_sequences=16) == alone
    assert {len(each) > 7 for each in alone.values()} == {True, False}
