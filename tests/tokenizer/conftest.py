"""Small tokenizers that need no file, and the published ones."""

import gzip
import importlib.util
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


@pytest.fixture(params=["bytes", "small_bpe", "small_world", "neox", "world"])
def every_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Return each kind of tokenizer in turn, small ones and published ones."""
    if request.param == "bytes":
        return BytesTokenizer()
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def neox(shared_data: Path) -> Tokenizer:
    return load_tokenizer(shared_data / "tokenizers" / "20B_tokenizer.json")


@pytest.fixture(scope="session")
def world_file() -> Path:
    """Return the vocabulary that comes with the authors' package, or skip the test."""
    package = importlib.util.find_spec("rwkv")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("needs the `rwkv` package, which is absent")
    return Path(package.submodule_search_locations[0], "rwkv_vocab_v20230424.txt")


@pytest.fixture(scope="session")
def world(world_file: Path) -> Tokenizer:
    return load_tokenizer(world_file)


@pytest.fixture(scope="session")
def wikitext(shared_data: Path) -> str:
    return (shared_data / "wikitext-2" / "wiki.valid.tokens").read_text()


@pytest.fixture(
    params=[
        "wikitext-2/wiki.valid.tokens",
        "wikitext-2/wiki.test.tokens",
        pytest.param("wikitext-2/wiki.train.tokens.gz", marks=pytest.mark.slow),
        "lambada/lambada_openai.jsonl",
    ]
)
def megabytes(request: pytest.FixtureRequest, shared_data: Path) -> list[str]:
    """Return each text of the data in turn, whole, in parts of a megabyte that a test can hold."""
    content = (shared_data / request.param).read_bytes()
    text = (gzip.decompress(content) if request.param.endswith(".gz") else content).decode()
    return [text[start : start + 1_000_000] for start in range(0, len(text), 1_000_000)]
