"""A small model whose texts end only when they are told to."""

import pytest

from receptance.inference import LanguageModel
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4


@pytest.fixture(scope="session")
def lm() -> LanguageModel:
    tokenizer = BytesTokenizer()
    return LanguageModel(random_rwkv4(2, 16, tokenizer.vocab_size), tokenizer)
