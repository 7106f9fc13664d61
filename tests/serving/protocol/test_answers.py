"""OpenAI's objects and events, to the letter."""

import json
from typing import Any

import pytest

from receptance.serving.protocol import DONE, Envelope, Stream, event, usage_object

CHAT = Envelope(kind="chatcmpl", model="m", system_fingerprint="fp_1", id="7", created=5)
TEXT = Envelope(kind="cmpl", model="m", system_fingerprint="fp_1", id="7", created=5)


def data_of(block: bytes) -> Any:
    assert block.startswith(b"data: ")
    assert block.endswith(b"\n\n")
    assert block.count(b"\n") == 2
    return json.loads(block[6:])


def test_an_object_says_what_it_is_and_who_made_it():
    assert CHAT.object("chat.completion", [], usage={}) == {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "system_fingerprint": "fp_1",
        "choices": [],
        "usage": {},
    }


def test_ids_are_made_here_and_never_twice():
    def envelope() -> Envelope:
        return Envelope(kind="cmpl", model="m", system_fingerprint="fp")

    assert envelope().id != envelope().id
    assert envelope().created > 1_700_000_000


def test_a_chat_begins_with_the_role_and_ends_with_an_empty_delta():
    stream = Stream(CHAT, includes_usage=False)
    blocks = stream.begin(0), stream.text(0, "hé\n"), stream.finish(0, "stop")
    begin, text, finish = (data_of(block) for block in blocks)
    assert begin["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert text["choices"][0]["delta"] == {"content": "hé\n"}
    assert text["choices"][0]["finish_reason"] is None
    assert finish["choices"][0]["delta"] == {}
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert begin["object"] == text["object"] == finish["object"] == "chat.completion.chunk"
    assert "usage" not in text
    assert stream.end({"total_tokens": 3}) == DONE


def test_a_completion_is_streamed_as_texts():
    stream = Stream(TEXT, includes_usage=False)
    assert stream.begin(0) == b""
    text, finish = data_of(stream.text(1, "a", {"tokens": []})), data_of(stream.finish(1, "length"))
    assert text["object"] == "text_completion"
    assert text["choices"] == [
        {"index": 1, "text": "a", "logprobs": {"tokens": []}, "finish_reason": None}
    ]
    assert finish["choices"][0]["text"] == ""
    assert finish["choices"][0]["finish_reason"] == "length"


def test_a_stream_with_usage_has_null_everywhere_and_one_event_more():
    stream = Stream(CHAT, includes_usage=True)
    assert data_of(stream.text(0, "a"))["usage"] is None
    usage, done = stream.end({"total_tokens": 3}).split(b"\n\n")[:2]
    assert json.loads(usage[6:])["usage"] == {"total_tokens": 3}
    assert json.loads(usage[6:])["choices"] == []
    assert done == b"data: [DONE]"


def test_a_name_that_looks_like_the_frame_breaks_nothing():
    tricky = Envelope(kind="cmpl", model='"choices":[]', system_fingerprint="fp")
    stream = Stream(tricky, includes_usage=True)
    assert data_of(stream.text(0, '"choices":[]'))["model"] == '"choices":[]'


@pytest.mark.parametrize("text", ["\n\ndata: [DONE]", "\r\n", "\u2028", "💥", "\x00", '"}]}'])
def test_no_text_can_end_its_event(text: str):
    assert data_of(Stream(TEXT, includes_usage=False).text(0, text))["choices"][0]["text"] == text
    assert data_of(event({"a": text})) == {"a": text}


def test_usage_counts_the_prompt_once_and_what_was_not_read_anew():
    assert usage_object(3, 4, 2) == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
