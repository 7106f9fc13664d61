"""A BPE vocabulary from texts."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.errors import TokenizerError
from receptance.tokenizer import BPETokenizer, train_bpe

CODE = Path(__file__).read_text()


def words(tokenizer: BPETokenizer, text: str) -> list[str]:
    """Return the text of each token of `text`."""
    return [tokenizer.decode([token]) for token in tokenizer.encode(text)]


def test_the_same_texts_give_the_same_tokenizer_in_any_order():
    texts = CODE.split("\n\n")
    first = train_bpe(texts, 500)
    assert first.vocab_size == 500
    assert train_bpe(iter(texts), 500).sha256 == first.sha256
    assert train_bpe(reversed(texts), 500).sha256 == first.sha256


def test_the_end_of_text_comes_first_and_the_bytes_next():
    tokenizer = train_bpe([CODE], 300)
    assert tokenizer.end_of_text == 0
    assert sorted(tokenizer.token_bytes(token) for token in range(1, 257)) == [
        bytes([byte]) for byte in range(256)
    ]
    assert not {0} & set(train_bpe(["<|endoftext|>" * 100], 300).encode("<|endoftext|>"))


def test_few_texts_give_as_many_tokens_as_they_have_pairs():
    assert train_bpe([], 1000).vocab_size == 257
    assert train_bpe(["ab ab"], 1000).vocab_size == 258
    assert words(train_bpe([], 257), "é ") == ["\ufffd", "\ufffd", " "]


@pytest.mark.parametrize("vocab_size", [256, 2**20 + 1, 10**30])
def test_a_vocabulary_without_room_for_all_bytes_or_beyond_any_model_is_refused(vocab_size):
    expected = rf"`vocab_size` must be at least 257.*, and at most 1048576, got {vocab_size}"
    with pytest.raises(ValueError, match=expected):
        train_bpe(["text"], vocab_size)


def test_a_lone_surrogate_among_the_texts_is_refused():
    with pytest.raises(TokenizerError, match=r"character 1 is '\\udc00'"):
        train_bpe(["fine", "a\udc00"], 300)


def test_an_error_of_the_texts_reaches_the_caller():
    def failing():
        yield "fine"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        train_bpe(failing(), 300)


def test_code_is_cut_where_a_reader_would():
    tokenizer = train_bpe([CODE, "if x:\n        return 12\n        return 12\n" * 50], 2000)
    pieces = words(tokenizer, "if x:\n        return 12\n")
    assert pieces == ["if", " x", ":\n        ", "return", " ", "1", "2", "\n"]


def test_marks_do_not_cut_words():
    tokenizer = train_bpe(["नमस्ते नमस्ते नमस्ते"], 300)
    assert words(tokenizer, "नमस्ते नमस्ते") == ["नमस्ते", " नमस्ते"]


@settings(deadline=None, max_examples=20)
@given(texts=st.lists(st.text(), max_size=4))
def test_every_trained_tokenizer_gives_text_back(texts: list[str]):
    tokenizer = train_bpe([text * 3 for text in texts], 400)
    for text in [*texts, "\u212b e\u0301 \0 <|endoftext|>\r\n"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
