"""`transformers` encodes as the tokenizer that we wrote beside the weights, or refuses."""

from pathlib import Path

import pytest

from receptance.tokenizer import BytesTokenizer, Tokenizer, load_tokenizer, train_bpe
from tests.huggingface_folders import written
from tests.random_models import random_rwkv4


def assert_transformers_encodes_as(tokenizer: Tokenizer, folder: Path, texts: list[str]) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.end_of_text == 0
    for text in texts:
        tokens = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == tokens
        assert theirs.decode(tokens) == tokenizer.decode(tokens)


AWKWARD = [" don't , . !  ?\n\n\t  12345\r\n", "x  y   z        w", "café 漢字 🙂\u200d", "  a", ""]


def test_transformers_encodes_with_a_tokenizer_of_ours(tmp_path):
    source = Path(__file__).read_text(encoding="utf-8")
    tokenizer = train_bpe([source], 300)
    folder = written(random_rwkv4(2, 64, 300), tmp_path / "ours", tokenizer)

    assert_transformers_encodes_as(tokenizer, folder, [source, *AWKWARD])
    assert load_tokenizer(folder).sha256 == tokenizer.sha256


def test_transformers_encodes_with_the_tokenizer_of_the_pile_models(shared_data, tmp_path):
    tokenizer = load_tokenizer(shared_data / "tokenizers" / "20B_tokenizer.json")
    text = (shared_data / "wikitext-2" / "wiki.valid.tokens").read_text(encoding="utf-8")
    folder = written(random_rwkv4(2, 64, 50277), tmp_path / "ours", tokenizer)

    assert_transformers_encodes_as(tokenizer, folder, [text[:300_000], *AWKWARD])


def test_transformers_refuses_a_tokenizer_that_it_lacks(tmp_path, shared_data):
    """Of a folder that said nothing it would make a tokenizer of two tokens."""
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    world = load_tokenizer(shared_data / "tokenizers" / "rwkv_vocab_v20230424.txt")
    for number, tokenizer in enumerate([world, BytesTokenizer()]):
        folder = written(random_rwkv4(2, 64, 256), tmp_path / str(number), tokenizer)

        with pytest.raises(ValueError, match="tokenizer"):
            transformers.AutoTokenizer.from_pretrained(folder)

    assert load_tokenizer(tmp_path / "0").sha256 == world.sha256
