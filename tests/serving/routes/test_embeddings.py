"""`/v1/embeddings` over HTTP."""

import asyncio
import base64
import math
import struct
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from tests.serving.event_streams import refused

PATH = "/v1/embeddings"


def ask(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"model": "tiny", **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_has_openais_shape(client: httpx.Client):
    answer = ask(client, input=["ab", "c"])
    assert answer["object"] == "list"
    assert answer["model"] == "tiny"
    assert [each["index"] for each in answer["data"]] == [0, 1]
    assert {each["object"] for each in answer["data"]} == {"embedding"}
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for each in answer["data"]:
        assert len(each["embedding"]) == 16
        assert math.hypot(*each["embedding"]) == pytest.approx(1)


def test_a_text_has_one_vector_whatever_stands_beside_it(client: httpx.Client):
    alone = ask(client, input="ab")["data"][0]["embedding"]
    assert ask(client, input=[97, 98])["data"][0]["embedding"] == alone
    among = ask(client, input=[f"{i}" * 9 for i in range(12)] + ["ab"])["data"]
    assert among[12]["embedding"] == alone
    assert among[0]["embedding"] != alone


def test_base64_holds_the_same_numbers(client: httpx.Client):
    floats = ask(client, input="ab", encoding_format="float")["data"][0]["embedding"]
    coded = ask(client, input="ab", encoding_format="base64")["data"][0]["embedding"]
    assert struct.unpack("<16f", base64.b64decode(coded)) == pytest.approx(floats, abs=1e-7)


def test_fewer_dimensions_are_the_first_ones(client: httpx.Client):
    whole = ask(client, input="ab")["data"][0]["embedding"]
    short = ask(client, input="ab", dimensions=4)["data"][0]["embedding"]
    assert short == pytest.approx([x / math.hypot(*whole[:4]) for x in whole[:4]])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"dimensions": 17}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[1], [999]]}, "input[1]"),
        ({"input": ["a"] * 17}, "input"),
        ({"strange": 1}, "strange"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    client: httpx.Client, change: dict[str, Any], param: str
):
    error = refused(client.post(PATH, json={"model": "tiny", "input": "a", **change}), 400)
    assert error["param"] == param


def test_a_model_that_is_not_here_is_not_replaced(client: httpx.Client):
    assert refused(client.post(PATH, json={"model": "x", "input": "a"}), 404)["param"] == "model"


def test_many_texts_that_are_short_alone_are_tokenized_off_the_event_loop(
    client: httpx.Client, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    loops: list[bool] = []
    encode = type(lm.tokenizer).encode

    def watched(self: Any, text: str) -> list[int]:
        try:
            loops.append(asyncio.get_running_loop().is_running())
        except RuntimeError:
            loops.append(False)
        return encode(self, text)

    monkeypatch.setattr(type(lm.tokenizer), "encode", watched)
    ask(client, input=["a" * 100] * 3)
    ask(client, input=["a" * 300] * 16)
    assert loops == [True] * 3 + [False] * 16
