"""A tiny model with random weights, and files made of it."""

from pathlib import Path

import pytest
import torch

from receptance.checkpoint import save_model
from receptance.models import RWKV4
from receptance.tokenizer import BPETokenizer, load_tokenizer, train_bpe
from tests.random_models import random_rwkv4


@pytest.fixture
def model() -> RWKV4:
    """An RWKV-4 of two layers over the bytes."""
    return random_rwkv4(n_layer=2, n_embd=8, vocab_size=256)


@pytest.fixture
def pth(model: RWKV4, tmp_path: Path) -> Path:
    """The model as the authors write it."""
    path = tmp_path / "RWKV-4-tiny.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def folder(model: RWKV4, tmp_path: Path) -> Path:
    """The model as a model folder."""
    save_model(model, load_tokenizer("bytes"), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def bpe() -> BPETokenizer:
    """A tokenizer of 270 ids."""
    texts = ["the quick brown fox jumps over the lazy dog " * 3, "what is it that makes it run"]
    return train_bpe(texts, 270)
