"""The tokenizers as llguidance sees them."""

from receptance.serving.grammar.vocabulary import llguidance_tokenizer
from receptance.tokenizer import BytesTokenizer


def test_every_byte_is_its_token_and_the_end_of_a_text_is_none():
    vocabulary = llguidance_tokenizer(BytesTokenizer())
    assert (vocabulary.vocab_size, vocabulary.eos_token) == (256, 0)
    assert vocabulary.decode_bytes([255, 0x61]) == b"\0a"
    assert vocabulary.is_special_token(0)
