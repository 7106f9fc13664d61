"""`/tokenize`, `/detokenize` and `/tokenizer_info` over HTTP."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving import off_loop
from receptance.serving.settings import Settings
from tests.serving.event_streams import is_on_a_loop, refused


def test_a_text_and_its_tokens_give_each_other(client: httpx.Client):
    answer = client.post("/tokenize", json={"model": "tiny", "prompt": "aé"}).json()
    assert answer == {"tokens": [97, 0xC3, 0xA9], "count": 3}
    assert client.post("/detokenize", json={"tokens": answer["tokens"]}).json() == {"prompt": "aé"}


@pytest.mark.parametrize("special", [True, False])
def test_no_tokens_are_put_around_a_text(client: httpx.Client, special: bool):
    body = {"prompt": "a", "add_special_tokens": special}
    assert client.post("/tokenize", json=body).json()["tokens"] == [97]


def test_the_tokenizer_is_told_and_has_no_text_for_an_end(client: httpx.Client):
    assert client.get("/tokenizer_info").json() == {
        "tokenizer": "bytes",
        "vocab_size": 256,
        "bos_token": None,
        "eos_token": None,
        "pad_token": None,
    }


def test_more_messages_than_a_chat_may_have_are_not_tokenized(client: httpx.Client):
    messages = [{"role": "user", "content": "Hi"}] * (Settings().max_messages + 1)
    error = refused(client.post("/tokenize", json={"messages": messages}), 400)
    assert error["param"] == "messages"


def test_messages_are_tokenized_as_a_chat_reads_them(client: httpx.Client):
    messages = [{"role": "user", "content": "Hi"}]
    answer = client.post("/tokenize", json={"messages": messages}).json()
    assert bytes(answer["tokens"]) == b"User: Hi\n\nAssistant:"
    chat = {"model": "tiny", "messages": messages, "max_tokens": 1}
    usage = client.post("/v1/chat/completions", json=chat).json()["usage"]
    assert usage["prompt_tokens"] == answer["count"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/tokenize", {"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ("/tokenize", {"prompt": "a", "strange": 1}, "strange"),
        ("/detokenize", {"tokens": [256]}, "tokens"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens[0]"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: httpx.Client, path: str, body: dict[str, Any], param: str
):
    assert refused(client.post(path, json=body), 400)["param"] == param


def test_long_lists_are_dealt_with_off_the_event_loop(
    client: httpx.Client, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    loops: list[bool] = []
    kind = type(lm.tokenizer)
    encode, decode = kind.encode, kind.decode

    def encode_watched(self: Any, text: str) -> list[int]:
        loops.append(is_on_a_loop())
        return encode(self, text)

    def decode_watched(self: Any, tokens: Sequence[int]) -> str:
        loops.append(is_on_a_loop())
        return decode(self, tokens)

    monkeypatch.setattr(kind, "encode", encode_watched)
    monkeypatch.setattr(kind, "decode", decode_watched)
    monkeypatch.setattr(off_loop, "SHORT", 5)
    for text in ("short", "longer"):
        tokens = client.post("/tokenize", json={"prompt": text}).json()["tokens"]
        assert client.post("/detokenize", json={"tokens": tokens}).json() == {"prompt": text}
    assert loops == [True, True, False, False]
