"""Bytes as tokens."""

import pytest

from receptance.errors import TokenizerError
from receptance.tokenizer import BytesTokenizer


def test_a_token_is_a_byte_of_utf8():
    assert BytesTokenizer().encode("aé\n") == [97, 0xC3, 0xA9, 10]
    assert [BytesTokenizer().token_bytes(t) for t in range(1, 255)] == [
        bytes([t]) for t in range(1, 255)
    ]


def test_nul_is_the_byte_that_utf8_never_has():
    tokenizer = BytesTokenizer()
    assert tokenizer.encode("a\0b") == [97, 255, 98]
    assert tokenizer.decode([97, 255, 98]) == "a\0b"
    assert not any(255 in chr(c).encode() for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def test_0xff_is_the_one_byte_without_a_token():
    tokenizer = BytesTokenizer()
    assert tokenizer.encode_bytes(bytes(range(255))) == [255, *range(1, 255)]
    with pytest.raises(TokenizerError) as caught:
        tokenizer.encode_bytes(b"a\0\xff\xff")
    assert str(caught.value) == (
        "bytes must not hold 0xFF, whose place among the tokens is taken by NUL, but byte 2 is "
        "0xFF; take another tokenizer for data that is not UTF-8"
    )


def test_there_are_256_tokens_and_the_hash_never_changes():
    assert BytesTokenizer().vocab_size == 256
    assert BytesTokenizer().sha256 == (
        "e42adc276a8be103b71bdab8dfeb953113e18163f22eda10c53e846e29e22499"
    )


def test_nothing_is_saved(tmp_path):
    BytesTokenizer().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_array_has_the_tokens_of_the_list():
    text = "aé\0\n"
    assert BytesTokenizer().encode_array(text).tolist() == BytesTokenizer().encode(text)
