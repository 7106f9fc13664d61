"""Pieces of long texts."""

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel, Split

from receptance.tokenizer.bpe import PATTERN
from receptance.tokenizer.pieces import can_be_cut_in, groups, pieces

TEXT = st.text(alphabet="aЖ字か한é\u0301ु1²٣ \n\r\t\u00a0.,，。、'_-:<|>s🙂")

SPLITTERS = {
    "gpt2": ByteLevel(add_prefix_space=False),
    "ours": Split(tokenizers.Regex(PATTERN), "isolated"),
}


@pytest.mark.parametrize("name", SPLITTERS)
@settings(deadline=None, max_examples=500)
@given(text=TEXT)
@example("it's a 字。\n  9 . x,y\n")
def test_every_cut_is_one_that_the_pre_tokenizer_makes_too(name: str, text: str):
    splitter = SPLITTERS[name]
    apart = [word for piece in pieces(text, 1) for word, _ in splitter.pre_tokenize_str(piece)]
    assert apart == [word for word, _ in splitter.pre_tokenize_str(text)]


@given(text=TEXT | st.text(), characters=st.integers(1, 5))
def test_pieces_join_to_the_text(text: str, characters: int):
    cut = list(pieces(text, characters))
    assert "".join(cut) == text
    assert all(len(piece) >= characters for piece in cut[:-1])


@settings(deadline=None)
@given(text=TEXT)
def test_composing_accents_composes_nothing_over_a_cut(text: str):
    nfc = tokenizers.normalizers.NFC()
    assert "".join(map(nfc.normalize_str, pieces(text, 1))) == nfc.normalize_str(text)


def test_a_short_text_is_one_piece_and_a_long_one_is_cut_at_words():
    assert list(pieces("one two three")) == ["one two three"]
    assert list(pieces("one two three", 2)) == ["one", " two", " three"]
    assert list(pieces("", 2)) == [""]
    assert list(pieces("-" * 10, 2)) == ["-" * 10]


def test_groups_keep_all_pieces_in_order():
    numbered = [(0, "aaa"), (0, "bbb"), (1, "c"), (2, "dddd")]
    assert list(groups(numbered, 4)) == [numbered[:2], numbered[2:]]
    assert list(groups([], 4)) == []


def test_a_token_with_a_cut_in_it_is_found():
    assert can_be_cut_in("two words")
    assert not can_be_cut_in("    ")
