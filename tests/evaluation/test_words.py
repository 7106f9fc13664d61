"""Words are those of lm-eval's wikitext, wherever a document is cut into pieces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.evaluation.words import WordCounter

TEXTS = st.text(alphabet="aé漢😀 \n\t\r\x0b\x1c\x85\xa0\u2003\u3000", max_size=40)


def count(pieces: list[str], block_bytes: int = 8) -> list[int]:
    counter = WordCounter(block_bytes)
    for piece in pieces:
        counter.add(piece)
    return counter.counts(len("".join(pieces).encode())).tolist()


@given(st.lists(TEXTS, max_size=4))
def test_there_are_as_many_as_the_expression_of_lm_eval_finds(pieces):
    text = "".join(pieces)

    counts = count(pieces)

    assert sum(counts) == len(re.split(r"\s+", text))
    assert len(counts) == max(1, -(-len(text.encode()) // 8))
    assert counts == count([text])


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", [1]),
        ("one", [1]),
        (" one ", [3]),
        ("a b c d e", [4 + 1, 0]),
        ("seven77 one", [2, 0]),
        ("eight888 one", [1, 1]),
        ("ééééé two", [1, 1]),
    ],
)
def test_a_word_is_in_the_block_where_the_white_space_before_it_begins(text, counts):
    assert count([text]) == counts


def test_a_character_that_was_cut_is_in_a_block_too():
    counter = WordCounter(8)
    counter.add("eight888")

    assert counter.counts(9).tolist() == [1, 0]
