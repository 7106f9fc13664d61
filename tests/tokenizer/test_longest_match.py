"""The longest token first."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receptance.tokenizer.longest_match import LongestMatch

SINGLE = {bytes([byte]): byte for byte in range(256)}
FEW = st.binary(max_size=12).map(lambda data: bytes(b"abc"[byte % 3] for byte in data))


def with_words(words: list[bytes]) -> dict[bytes, int]:
    """Return the single bytes as 0 … 255 and the words from 256 on."""
    return SINGLE | {word: 256 + place for place, word in enumerate(words) if len(word) > 1}


def by_search(tokens: dict[bytes, int], data: bytes) -> list[int]:
    """Return what the definition says: at each place, the longest token that begins there."""
    found = []
    while data:
        length = next(n for n in range(len(data), 0, -1) if data[:n] in tokens)
        found.append(tokens[data[:length]])
        data = data[length:]
    return found


@settings(deadline=None, max_examples=200)
@given(words=st.lists(FEW, max_size=12), texts=st.lists(st.lists(FEW, max_size=6), max_size=4))
@example(words=[b"abcabcabc", b"bca", b"cab"], texts=[[b"abcabcabab"], [b"abcabc", b"bcabcac"]])
def test_each_token_is_the_longest_that_begins_there_whatever_came_before(
    words: list[bytes], texts: list[list[bytes]]
):
    tokens = with_words(words)
    match = LongestMatch(tokens)
    for data in map(b"".join, texts):
        assert match.tokens(data) == by_search(tokens, data)


def test_a_long_false_start_falls_into_the_right_tokens():
    tokens = with_words([b"abcdefgh", b"bcd", b"ef"])
    assert LongestMatch(tokens).tokens(b"abcdefg") == [97, tokens[b"bcd"], tokens[b"ef"], 103]


def test_threads_that_are_the_first_to_come_somewhere_get_the_same_tokens():
    random = Random(0)
    words = [bytes(random.choices(b"abcd", k=random.randrange(2, 30))) for _ in range(3000)]
    data = b"".join(word[: random.randrange(30)] for word in words * 3)
    tokens = with_words(words)
    wanted = LongestMatch(tokens).tokens(data)
    match = LongestMatch(tokens)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == wanted for found in pool.map(match.tokens, [data] * 8))


def test_a_token_of_100000_bytes_needs_little_memory():
    # Each node of its trie would fall into as many tokens as it has bytes: 5 · 10⁹ in all.
    word = Random(0).randbytes(100_000)
    tokens = with_words([word])
    data = word[:-1] + word + word[1:]
    found = LongestMatch(tokens).tokens(data)
    assert found == [*word[:-1], tokens[word], *word[1:]]


def test_the_empty_text_has_no_tokens():
    assert LongestMatch(SINGLE).tokens(b"") == []


def test_a_vocabulary_that_cannot_express_everything_is_refused():
    with pytest.raises(ValueError, match="must have all 256 single bytes and no empty token"):
        LongestMatch({b"a": 1})
    with pytest.raises(ValueError, match="must have all 256 single bytes and no empty token"):
        LongestMatch(SINGLE | {b"": 256})
