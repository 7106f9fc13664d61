"""Logprobs in both shapes."""

import math

from receptance.inference import TokenLogprobs
from receptance.serving.protocol import CompletionLogprobs, TokenTexts, chat_logprobs, joined
from receptance.tokenizer import BytesTokenizer

BYTES = BytesTokenizer()
TEXTS = TokenTexts(BYTES)


def logprobs_of(text: str, *top: tuple[int, float]) -> list[TokenLogprobs]:
    return [TokenLogprobs(token, -0.5, top) for token in BYTES.encode(text)]


A = BYTES.encode("a")[0]
B = BYTES.encode("b")[0]


def test_a_token_is_named_by_its_text_or_else_by_its_bytes():
    assert TEXTS.name(A) == "a"
    assert TEXTS.name(BYTES.encode("é")[0]) == r"bytes:\xc3"
    assert TEXTS.name(BYTES.end_of_text) == ""
    assert TEXTS.name(10**6) == ""  # a row of the model that has no token


def test_a_chat_gets_tokens_with_their_bytes_and_the_likeliest():
    (entry,) = chat_logprobs(logprobs_of("a", (A, -0.5), (B, -math.inf)), TEXTS)["content"]
    assert entry == {
        "token": "a",
        "bytes": [97],
        "logprob": -0.5,
        "top_logprobs": [
            {"token": "a", "bytes": [97], "logprob": -0.5},
            {"token": "b", "bytes": [98], "logprob": -9999.0},
        ],
    }


def test_a_completion_gets_four_lists_of_one_length():
    said = CompletionLogprobs(TEXTS, BYTES).push(logprobs_of("ab", (A, -0.5)), "ab")
    assert said["tokens"] == ["a", "b"]
    assert said["token_logprobs"] == [-0.5, -0.5]
    assert said["text_offset"] == [0, 1]
    assert said["top_logprobs"] == [{"a": -0.5}, {"a": -0.5, "b": -0.5}]


def test_the_first_token_of_a_prompt_has_no_logprob():
    counter = CompletionLogprobs(TEXTS, BYTES)
    said = counter.echo([A, B], [None, *logprobs_of("b")], "ab")
    assert said["tokens"] == ["a", "b"]
    assert said["token_logprobs"] == [None, -0.5]
    assert said["top_logprobs"] == [None, {"b": -0.5}]


def test_an_offset_counts_characters_and_not_tokens():
    counter = CompletionLogprobs(TEXTS, BYTES)
    first, second = counter.push(logprobs_of("éx"), "éx"), counter.push(logprobs_of("yz"), "yz")
    assert first["text_offset"] == [0, 0, 1]
    assert second["text_offset"] == [2, 3]
    assert joined([first, second])["text_offset"] == [0, 0, 1, 2, 3]


def test_a_text_begins_behind_a_prompt_that_ends_within_a_character():
    counter = CompletionLogprobs(TEXTS, BYTES)
    prompt = BYTES.encode("aé")[:2]
    assert counter.echo(prompt, [None, *logprobs_of("b")], "a\ufffd")["text_offset"] == [0, 1]
    assert counter.push(logprobs_of("é"), "é")["text_offset"] == [2, 2]
