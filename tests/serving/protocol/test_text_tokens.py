"""Tokens are told of with their text, however it is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receptance.inference import TokenLogprobs
from receptance.serving.protocol import TextTokens
from receptance.tokenizer import BytesTokenizer

BYTES = BytesTokenizer()
END = BYTES.end_of_text


def said_of(text: str) -> list[TokenLogprobs]:
    return [TokenLogprobs(each, -0.5, ()) for each in BYTES.encode(text)]


@given(
    begin=st.text(" \n\u3000", max_size=3),
    rest=st.text("aé\u20ac ", max_size=6),
    held=st.text("bü", max_size=4),
    is_stop=st.booleans(),
    data=st.data(),
)
def test_the_tokens_that_are_told_are_the_text(
    begin: str, rest: str, held: str, is_stop: bool, data: st.DataObject
):
    """Whatever was held back, cut off or a stop text, and wherever the pieces end."""
    written, text = begin + rest + held, begin + rest + ("" if is_stop else held)
    tokens = said_of(written)
    borders = sorted(data.draw(st.lists(st.integers(0, len(tokens)), max_size=3)))
    texts = TextTokens(BYTES)
    told: list[int] = []
    n_out = 0
    for start, end in zip([0, *borders], [*borders, len(tokens)], strict=True):
        n_whole = len(BYTES.decode([each.token for each in tokens[:end]]).rstrip("\ufffd"))
        is_last = end == len(tokens) and start == (borders[-1] if borders else 0)
        n_now = len(text) if is_last else max(n_out, min(n_whole, len(begin + rest)))
        piece = text[n_out:n_now]
        n_cut = max(0, min(len(begin), n_now) - n_out)
        ended = ("stop" if is_stop else "length") if is_last else None
        told += [
            each.said.token
            for each in texts.push(tokens[start:end], piece, n_cut=n_cut, ended=ended)
        ]
        n_out = n_now
    assert BYTES.decode(told) == text[len(begin) :]


def test_a_token_is_told_of_with_the_first_of_its_text():
    texts = TextTokens(BYTES)
    tokens = said_of("aé")
    assert [each.start for each in texts.push(tokens[:2], "a")] == [0]
    assert [(each.start, each.end) for each in texts.push(tokens[2:], "é")] == [(1, 1), (1, 2)]


@pytest.mark.parametrize(("ended", "n_told"), [("stop", 1), ("length", 2), (None, 1)])
def test_half_a_character_is_of_the_text_if_no_stop_text_ends_it(ended: str | None, n_told: int):
    tokens = said_of("aé")[:2]
    assert len(TextTokens(BYTES).push(tokens, "a", ended=ended)) == n_told


def test_the_token_that_ends_a_text_comes_last():
    texts = TextTokens(BYTES)
    tokens = [*said_of("a"), TokenLogprobs(END, -0.1, ())]
    assert [each.said.token for each in texts.push(tokens, "a")] == [97]
    assert [each.said.token for each in texts.push([], "", ended="end_of_text")] == [END]
