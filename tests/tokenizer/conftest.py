"""Small tokenizers that need no file, and the published ones."""

from pathlib import Path

import pytest

from receptance.tokenizer import (
    BPETokenizer,
    BytesTokenizer,
    Tokenizer,
    WorldTokenizer,
    load_tokenizer,
    train_bpe,
)

WORDS = [
    "the",
    " the",
    "them",
    "  ",
    "\n\n",
    "=" * 4,
    "=" * 16,
    "abcdefgh",
    "bcd",
    "ef",
    "é",
    "漢字",
]


@pytest.fixture(scope="module")
def world_lines() -> tuple[str, ...]:
    """Return a vocabulary of all bytes, a few words and an id that is left out, line by line."""
    tokens: list[str | bytes] = [chr(b) if b < 128 else bytes([b]) for b in range(256)]
    numbered = [*enumerate(tokens, start=1), *enumerate(WORDS, start=258)]
    return tuple(
        f"{number} {token!r} {len(token.encode() if isinstance(token, str) else token)}"
        for number, token in numbered
    )


@pytest.fixture(scope="module")
def small_world(world_lines: tuple[str, ...]) -> WorldTokenizer:
    return WorldTokenizer("\n".join([*world_lines, ""]).encode())


@pytest.fixture(scope="module")
def small_bpe() -> BPETokenizer:
    return train_bpe([Path(__file__).read_text()] * 2, 400)


@pytest.fixture(params=["bytes", "bpe", "world"])
def tokenizer(
    request: pytest.FixtureRequest, small_bpe: BPETokenizer, small_world: WorldTokenizer
) -> Tokenizer:
    """Return each kind of tokenizer in turn."""
    return {"bytes": BytesTokenizer(), "bpe": small_bpe, "world": small_world}[request.param]


@pytest.fixture(scope="module")
def neox(shared_data: Path) -> Tokenizer:
    return load_tokenizer(shared_data / "tokenizers" / "20B_tokenizer.json")


@pytest.fixture(scope="module")
def world(shared_data: Path) -> Tokenizer:
    return load_tokenizer(shared_data / "tokenizers" / "rwkv_vocab_v20230424.txt")


@pytest.fixture(scope="module")
def wikitext(shared_data: Path) -> str:
    return (shared_data / "wikitext-2" / "wiki.valid.tokens").read_text()
