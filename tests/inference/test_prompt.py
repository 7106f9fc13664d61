"""A prompt comes in chunks of one size, checked, and is never in memory as a whole."""

from collections.abc import Iterator

import pytest

from receptance.inference.prompt import Chunks


def chunks_of(tokens, n: int = 3, **options) -> Chunks:
    return Chunks(tokens, chunk_tokens=n, vocab_size=10, **options)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 6, 7])
def test_chunks_joined_are_the_tokens(length):
    tokens = list(range(length))

    chunks = list(chunks_of(tokens))

    assert [token for chunk in chunks for token in chunk] == tokens
    assert all(len(chunk) == 3 for chunk in chunks[:-1])
    assert all(chunks)


def test_the_last_chunk_is_known_to_be_the_last():
    chunks = chunks_of(range(6))

    assert not chunks.is_over
    assert next(chunks) == [0, 1, 2]
    assert not chunks.is_over
    assert chunks.n_tokens == 3
    assert next(chunks) == [3, 4, 5]
    assert chunks.is_over
    assert chunks.n_tokens == 6
    assert next(chunks, None) is None


def test_what_stands_in_for_no_tokens_is_not_counted():
    chunks = chunks_of([], if_empty=[7])

    assert chunks.is_stand_in
    assert list(chunks) == [[7]]
    assert chunks.n_tokens == 0
    assert not chunks_of([1], if_empty=[7]).is_stand_in


def test_a_stream_is_read_one_chunk_ahead_and_no_further():
    n_read = 0

    def stream() -> Iterator[int]:
        nonlocal n_read
        for _ in range(100):
            n_read += 1
            yield 1

    chunks = chunks_of(stream())
    assert n_read == 3
    next(chunks)
    assert n_read == 6


@pytest.mark.parametrize("wrong", [-1, 10, 2**70])
def test_a_token_of_no_vocabulary_is_refused_when_its_chunk_is_read(wrong):
    words = f"tokens must be from 0 to 9, as the model's vocabulary is, got {wrong}"

    with pytest.raises(ValueError, match=words):
        chunks_of([1, wrong])
    chunks = chunks_of([1, 2, 3, 4, wrong])
    with pytest.raises(ValueError, match=words):
        next(chunks)


def test_a_token_that_is_no_integer_is_refused():
    with pytest.raises(TypeError):
        chunks_of([1.5])


def test_a_chunk_has_tokens():
    with pytest.raises(ValueError, match="`chunk_tokens` must be at least 1, got 0"):
        chunks_of([1], 0)


def test_chunks_end_at_marks_that_count_what_came_before():
    chunks = Chunks(range(20), chunk_tokens=5, vocab_size=20, cut_at=8, n_before=3)

    assert [len(chunk) for chunk in chunks] == [5, 5, 3, 5, 2]
    assert chunks.n_tokens == 20
