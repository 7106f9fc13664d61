"""A tiny language model over the bytes, with random weights."""

import pytest

from receptance.inference import LanguageModel
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4


@pytest.fixture
def lm() -> LanguageModel:
    """A random model with the tokenizer of bytes; much of its text is not UTF-8."""
    model = random_rwkv4(n_layer=2, n_embd=16, vocab_size=256)
    return LanguageModel(model, load_tokenizer("bytes"), chunk_tokens=8)


@pytest.fixture
def ascii_bias() -> dict[int, float]:
    """A bias that forbids all but the visible ASCII characters and the space."""
    return {token: float("-inf") for token in range(256) if not 32 <= token < 127}
