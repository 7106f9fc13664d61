"""Text as tokens arrive."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receptance.errors import TokenizerError
from receptance.tokenizer import BytesTokenizer, Detokenizer, Tokenizer

# Parts of characters, of overlong forms, of surrogates and of what is beyond Unicode.
BYTES = st.lists(
    st.sampled_from(
        [0, 0x41, 0x80, 0xA9, 0xBF, 0xC0, 0xC3, 0xE0, 0xED, 0xF0, 0x9F, 0xF4, 0xF8, 0xFF]
    )
    | st.integers(0, 255)
)


@settings(deadline=None, max_examples=200)
@given(tokens=BYTES)
@example(tokens=[0xF0, 0x9F, 0x99])
@example(tokens=[0xE2, 0, 0x82, 0xAC])
@example(tokens=[0xED, 0xA0, 0x80])
def test_pieces_join_to_the_text_of_all_tokens(tokens: list[int]):
    tokenizer = BytesTokenizer()
    stream = Detokenizer(tokenizer)
    assert "".join([*map(stream.push, tokens), stream.flush()]) == tokenizer.decode(tokens)


@settings(deadline=None)
@given(text=st.text())
def test_text_never_shows_a_replacement_that_a_later_token_would_undo(text: str):
    stream = Detokenizer(BytesTokenizer())
    shown = ""
    for token in BytesTokenizer().encode(text):
        shown += stream.push(token)
        assert text.startswith(shown)
    assert shown == text
    assert stream.flush() == ""


def test_a_character_comes_with_its_last_byte():
    stream = Detokenizer(BytesTokenizer())
    assert [stream.push(token) for token in "a🙂b".encode()] == ["a", "", "", "", "🙂", "b"]


def test_after_flush_a_new_text_begins():
    stream = Detokenizer(BytesTokenizer())
    stream.push(0xF0)
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""
    assert stream.push(0x41) == "A"


def test_words_of_any_tokenizer_come_at_once(tokenizer: Tokenizer):
    stream = Detokenizer(tokenizer)
    tokens = tokenizer.encode("the  漢字 é\n")
    pieces = [stream.push(token) for token in [*tokens, tokenizer.end_of_text]]
    assert "".join(pieces) == "the  漢字 é\n"
    assert stream.flush() == ""


def test_a_foreign_token_is_refused_and_the_text_goes_on():
    stream = Detokenizer(BytesTokenizer())
    stream.push(0xC3)
    with pytest.raises(TokenizerError, match="got 256"):
        stream.push(256)
    assert stream.push(0xA9) == "é"
