"""A prompt is read in chunks, and its operations are counted as they are done."""

import pytest
import torch

from receptance.benchmark import MatrixCeiling, Prefill, prefill, prefill_flops, random_model
from receptance.benchmark.prefill import CHUNK_TOKENS
from receptance.models import RWKV4Config
from tests.random_models import random_rwkv4, random_tokens

CONFIG = RWKV4Config(n_layer=1, n_embd=32, vocab_size=40)


@pytest.mark.parametrize("n_tokens", [1, CHUNK_TOKENS, 2 * CHUNK_TOKENS + 3])
def test_the_logits_are_those_after_the_last_token(n_tokens):
    model = random_rwkv4(dtype=torch.float64)
    tokens = random_tokens(1, n_tokens)

    logits, state = prefill(model, tokens)

    assert state is not None
    expected, expected_state = model(tokens)
    assert torch.allclose(logits, expected[:, -1], rtol=1e-9)
    assert all(
        torch.allclose(state.tensors[name], each, rtol=1e-9)
        for name, each in expected_state.tensors.items()
    )


def test_it_goes_on_from_a_state():
    model = random_rwkv4(dtype=torch.float64)
    tokens = random_tokens(1, 20)

    _, state = prefill(model, tokens[:, :8])
    logits, _ = prefill(model, tokens[:, 8:], state)

    assert torch.allclose(logits, prefill(model, tokens)[0], rtol=1e-9)


def test_the_head_is_counted_once_a_chunk():
    layers, head = 2 * 13 * 32 * 32, 2 * 40 * 32

    assert prefill_flops(CONFIG, 1) == layers + head == CONFIG.flops_per_token
    assert prefill_flops(CONFIG, CHUNK_TOKENS) == CHUNK_TOKENS * layers + head
    assert prefill_flops(CONFIG, CHUNK_TOKENS + 1) == (CHUNK_TOKENS + 1) * layers + 2 * head


def test_the_figures_follow_from_the_seconds():
    found = Prefill(random_model(CONFIG, "float32"), 8)
    assert found.first_token_s > 0
    found.timed.seconds, found.timed.began = [2.0, 4.0, 3.0], [0.0, 1.0, 2.0]
    matrix = MatrixCeiling(CONFIG, torch.float32, 8)
    matrix.timed.seconds, matrix.timed.began = [1.5], [0.0]

    figures = found.figures(matrix)

    assert figures.prompt_tokens == 8
    assert figures.tokens_per_s == pytest.approx(8 / 3)
    assert figures.spread == pytest.approx(2 / 3)
    assert figures.flops_per_s == pytest.approx(prefill_flops(CONFIG, 8) / 3)
    assert figures.share_of_matrix == pytest.approx(0.5 * prefill_flops(CONFIG, 8) / matrix.flops)
