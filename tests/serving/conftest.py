"""A tiny model over the bytes, and a server of it that tests of the API share."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from receptance.inference import LanguageModel
from receptance.serving.app import ServerApp, create_app
from receptance.serving.settings import Settings
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.http_server import served


@pytest.fixture(scope="session")
def lm() -> LanguageModel:
    """A random model; much of its text is not UTF-8."""
    tokenizer = BytesTokenizer()
    return LanguageModel(random_rwkv4(2, 16, tokenizer.vocab_size), tokenizer, chunk_tokens=64)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Small limits, so that tests reach them."""
    return Settings(
        max_sequences=8,
        max_waiting=32,
        chunk_tokens=64,
        max_tokens=2000,
        default_max_tokens=12,
        max_prompt_tokens=3000,
        max_choices=8,
        max_inputs=16,
        state_cache_bytes=2**20,
    )


@pytest.fixture(scope="session")
def app(lm: LanguageModel, settings: Settings) -> ServerApp:
    """The app behind `server`."""
    return create_app(lm, settings, model_name="tiny")


@pytest.fixture(scope="session")
def server(app: ServerApp) -> Iterator[str]:
    """The URL of a server of the model "tiny", which needs no key."""
    with served(app) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    """A plain client of `server`."""
    with httpx.Client(base_url=server) as client:
        yield client


@pytest.fixture
def sdk(server: str) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, of `server`; it does not try again."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk
