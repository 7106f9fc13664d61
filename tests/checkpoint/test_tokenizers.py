"""The tokenizer of a checkpoint is the one that fits; where there is none, it is said which."""

from pathlib import Path

import pytest

from receptance.checkpoint.stored import Format, StoredModel
from receptance.checkpoint.tokenizers import HUB, find_tokenizer, missing_tokenizer
from receptance.errors import CheckpointError
from receptance.models import RWKV4Config
from receptance.tokenizer import Tokenizer, train_bpe

TEXTS = ["the quick brown fox jumps over the lazy dog " * 3, "what is it that makes it run"]
PILE, WORLD = 50277, 65536


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return train_bpe(TEXTS, 260)


@pytest.fixture(scope="module")
def large() -> Tokenizer:
    return train_bpe(TEXTS, 270)


def stored(
    path: Path, vocab_size: int, format: Format = "official", *, is_of_hub: bool = False
) -> StoredModel:
    """A checkpoint at a path, of which there is nothing but its sizes."""
    details = {HUB: "o/n@c"} if is_of_hub else {}
    config = RWKV4Config(n_layer=1, n_embd=8, vocab_size=vocab_size)
    return StoredModel(format, path, path, config, None, dict, dict, details)


def put(tokenizer: Tokenizer, folder: Path, name: str) -> None:
    """Write a tokenizer under a name of its authors."""
    tokenizer.save(folder)
    (folder / "tokenizer.json").rename(folder / name)


@pytest.mark.parametrize("format", ["official", "ggml", "huggingface"])
def test_the_largest_beside_foreign_weights_that_fits_is_taken(tmp_path, small, large, format):
    put(large, tmp_path, "20B_tokenizer.json")
    put(small, tmp_path, "tokenizer.json")
    path = tmp_path if format == "huggingface" else tmp_path / "model"

    for vocab_size, expected in ((300, large), (270, large), (265, small)):
        found = find_tokenizer(stored(path, vocab_size, format), None)
        assert found is not None
        assert found.sha256 == expected.sha256
    assert find_tokenizer(stored(path, 258, format), None) is None


@pytest.mark.parametrize("vocab_size", [PILE, WORLD])
def test_a_published_vocabulary_is_not_read_by_a_smaller_tokenizer(tmp_path, small, vocab_size):
    put(small, tmp_path, "tokenizer.json")

    assert find_tokenizer(stored(tmp_path / "RWKV-4.pth", vocab_size), None) is None


@pytest.mark.parametrize(
    ("vocab_size", "file"), [(PILE, "20B_tokenizer.json"), (WORLD, "rwkv_vocab_v20230424.txt")]
)
def test_of_both_published_tokenizers_the_right_one_is_taken(
    tmp_path, shared_data: Path, vocab_size, file
):
    for name in ("20B_tokenizer.json", "rwkv_vocab_v20230424.txt"):
        (tmp_path / name).symlink_to(shared_data / "tokenizers" / name)

    found = find_tokenizer(stored(tmp_path / "RWKV-4.pth", vocab_size), None)

    assert found is not None
    assert found.name == ("world" if file.endswith(".txt") else "bpe")


@pytest.mark.parametrize("format", ["native", "official", "ggml", "huggingface"])
def test_bytes_need_no_file(tmp_path, format):
    found = find_tokenizer(stored(tmp_path, 256, format), None)
    assert found is not None
    assert found.name == "bytes"
    assert find_tokenizer(stored(tmp_path, 257, format), None) is None


def test_the_one_that_is_given_goes_before_the_one_beside(tmp_path, small, large):
    put(large, tmp_path, "tokenizer.json")
    assert find_tokenizer(stored(tmp_path / "a.pth", 300), small) is small
    with pytest.raises(CheckpointError, match="at most the 258 ids"):
        find_tokenizer(stored(tmp_path / "a.pth", 258), small)


def test_a_model_of_the_hub_borrows_the_tokenizer_of_its_vocabulary(
    tmp_path, hub, shared_data: Path
):
    data = (shared_data / "tokenizers" / "20B_tokenizer.json").read_bytes()
    hub.add("RWKV/rwkv-4-169m-pile", {"tokenizer.json": data, "model.safetensors": b"large"})
    data = (shared_data / "tokenizers" / "rwkv_vocab_v20230424.txt").read_bytes()
    hub.add("RWKV/v5-Eagle-7B-HF", {"rwkv_vocab_v20230424.txt": data})

    for vocab_size, name in ((PILE, "bpe"), (WORLD, "world")):
        found = find_tokenizer(stored(tmp_path / "a.pth", vocab_size, is_of_hub=True), None)
        assert found is not None
        assert (found.name, found.vocab_size) == (name, vocab_size)
    assert hub.fetched() == ["rwkv_vocab_v20230424.txt", "tokenizer.json"]


def test_a_model_that_is_not_of_the_hub_borrows_nothing(tmp_path, hub):
    assert find_tokenizer(stored(tmp_path / "a.pth", PILE), None) is None
    assert hub.requests == []


def test_what_cannot_be_borrowed_is_a_warning(tmp_path, hub, small, caplog):
    model = stored(tmp_path / "a.pth", PILE, is_of_hub=True)
    assert find_tokenizer(model, None) is None
    assert "no tokenizer: there is neither" in caplog.text

    put(small, tmp_path, "wrong.json")
    hub.add("RWKV/rwkv-4-169m-pile", {"tokenizer.json": (tmp_path / "wrong.json").read_bytes()})
    assert find_tokenizer(model, None) is None
    assert "tokenizer.json is not 20B_tokenizer.json" in caplog.text


@pytest.mark.parametrize(
    ("vocab_size", "words"),
    [
        (PILE, ["20B_tokenizer.json", "github.com/BlinkDL/ChatRWKV/blob/main/20B_tokenizer.json"]),
        (WORLD, ["rwkv_vocab_v20230424.txt", "ChatRWKV/blob/main/tokenizer/", "package `rwkv`"]),
        (300, ["'bytes'", "tokenizer.json", "at most its 300 ids"]),
    ],
)
def test_a_missing_tokenizer_is_named_with_its_place_and_source(tmp_path, vocab_size, words):
    message = missing_tokenizer(tmp_path / "RWKV-4.pth", vocab_size)

    assert all(word in message for word in [*words, "--tokenizer", "RWKV-4.pth"])
    assert (f"put that into {str(tmp_path)!r}" in message) == (vocab_size != 300)


def test_a_model_that_came_from_nowhere_may_lack_a_tokenizer_too():
    assert "at most its 300 ids" in missing_tokenizer(None, 300)
    assert "20B_tokenizer.json" in missing_tokenizer(None, PILE)
