"""A tiny model with random weights, and files made of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from receptance.checkpoint import save_model
from receptance.models import RWKV4
from receptance.tokenizer import load_tokenizer
from tests.checkpoint.local_hub import LocalHub
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub without repositories that the library asks, with a cache below tmp_path / "home"."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with LocalHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub
