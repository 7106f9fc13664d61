"""OpenAI's own client, as the judge of the whole API."""

import asyncio
import base64
import json
import struct
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import BaseModel

MODEL = "tiny"
MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hello"}]


LONG = [{"role": "user", "content": "x" * 4000}]


class _Choice(BaseModel):
    answer: Literal["yes", "no"]


def test_models_are_listed_and_described(sdk: openai.OpenAI):
    assert [each.id for each in sdk.models.list()] == [MODEL]
    model = sdk.models.retrieve(MODEL)
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "receptance")
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"


def test_a_chat_is_answered(sdk: openai.OpenAI):
    answer = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=7, seed=1, n=2, temperature=0.7
    )
    assert answer.object == "chat.completion"
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.message.role == "assistant"
        assert choice.message.content is not None
        assert choice.message.refusal is None
        assert choice.message.tool_calls is None
        assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 14
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert answer.system_fingerprint is not None
    assert answer._request_id is not None


def test_a_chat_is_streamed(sdk: openai.OpenAI):
    kwargs: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 20, "seed": 3}
    whole = sdk.chat.completions.create(**kwargs).choices[0]
    chunks = list(
        sdk.chat.completions.create(**kwargs, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.message.content
    assert chunks[-2].choices[0].finish_reason == whole.finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_the_clients_own_way_to_gather_a_stream_gives_the_same(sdk: openai.OpenAI):
    form = {"response_format": {"type": "regex", "pattern": "[a-z]{9}"}}
    kwargs: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "seed": 3, "extra_body": form}
    with sdk.chat.completions.stream(**kwargs, logprobs=True, top_logprobs=2) as stream:
        kinds = {event.type for event in stream}
        gathered = stream.get_final_completion().choices[0]
    assert {"chunk", "content.delta", "content.done", "logprobs.content.done"} <= kinds
    whole = sdk.chat.completions.create(**kwargs, logprobs=True, top_logprobs=2).choices[0]
    assert gathered.message.content == whole.message.content
    assert gathered.finish_reason == whole.finish_reason
    assert gathered.logprobs is not None
    assert whole.logprobs is not None
    assert gathered.logprobs.content == whole.logprobs.content


def test_logprobs_of_a_chat_are_typed_and_of_every_token(sdk: openai.OpenAI):
    answer = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=6, logprobs=True, top_logprobs=3, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert answer.usage is not None
    assert len(logprobs.content) == answer.usage.completion_tokens
    for entry in logprobs.content:
        assert entry.bytes is not None
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob
        assert entry.token == entry.top_logprobs[0].token


def test_an_answer_is_parsed_as_the_clients_own_model(sdk: openai.OpenAI):
    answer = sdk.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=_Choice, max_tokens=400, seed=1
    )
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert parsed.answer in ("yes", "no")


def test_an_answer_that_was_cut_is_not_parsed(sdk: openai.OpenAI):
    with pytest.raises(openai.LengthFinishReasonError):
        sdk.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_format=_Choice, max_tokens=2
        )


def test_a_completion_is_written_and_streamed(sdk: openai.OpenAI):
    kwargs: dict[str, Any] = {"model": MODEL, "prompt": "abc", "max_tokens": 8, "seed": 1}
    whole = sdk.completions.create(**kwargs, logprobs=2, echo=True)
    choice = whole.choices[0]
    assert whole.object == "text_completion"
    assert choice.text.startswith("abc")
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert len(choice.logprobs.tokens) == 11
    assert choice.logprobs.text_offset == sorted(choice.logprobs.text_offset or [])
    chunks = list(sdk.completions.create(**kwargs, stream=True))
    assert "abc" + "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_what_is_beyond_openais_fields_goes_through_extra_body(sdk: openai.OpenAI):
    kwargs: dict[str, Any] = {"model": MODEL, "prompt": "abc", "max_tokens": 8, "seed": 1}
    greedy = sdk.completions.create(**kwargs, temperature=0).choices[0].text
    extra = {"top_k": 1, "min_p": 0.1, "typical_p": 1.0, "penalty_decay": 1.0,
             "repetition_penalty": 1.0}  # fmt: skip
    assert sdk.completions.create(**kwargs, extra_body=extra).choices[0].text == greedy
    matched = {"response_format": {"type": "regex", "pattern": "(ab)+c"}}
    text = sdk.completions.create(**kwargs, extra_body=matched, logit_bias={"99": 50})
    assert text.choices[0].text == "abc"


def test_embeddings_come_as_the_client_asks_for_them(sdk: openai.OpenAI):
    by_default = sdk.embeddings.create(model=MODEL, input=["ab", "c"])
    floats = sdk.embeddings.create(model=MODEL, input=["ab", "c"], encoding_format="float")
    assert [each.index for each in by_default.data] == [0, 1]
    for ours, theirs in zip(by_default.data, floats.data, strict=True):
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-6)
    assert floats.usage.prompt_tokens == 3
    raw = sdk.embeddings.with_raw_response.create(model=MODEL, input="ab", encoding_format="base64")
    coded = json.loads(raw.text)["data"][0]["embedding"]
    assert struct.unpack("<16f", base64.b64decode(coded)) == pytest.approx(
        floats.data[0].embedding, abs=1e-6
    )
    assert len(sdk.embeddings.create(model=MODEL, input="a", dimensions=5).data[0].embedding) == 5


@pytest.mark.parametrize(
    ("change", "error", "param", "code"),
    [
        ({"temperature": 3}, openai.BadRequestError, "temperature", None),
        ({"n": 100}, openai.BadRequestError, "n", None),
        ({"model": "gpt-5"}, openai.NotFoundError, "model", "model_not_found"),
        ({"reasoning_effort": "low"}, openai.BadRequestError, "reasoning_effort",
         "unsupported_parameter"),
        ({"extra_body": {"strange": 1}}, openai.BadRequestError, "strange", "unknown_parameter"),
        ({"messages": LONG}, openai.BadRequestError, "messages",
         "context_length_exceeded"),
    ],
)  # fmt: skip
def test_an_error_is_one_of_the_clients_with_all_that_it_holds(
    sdk: openai.OpenAI,
    change: dict[str, Any],
    error: type[openai.APIStatusError],
    param: str,
    code: str | None,
):
    kwargs: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 1, **change}
    with pytest.raises(error) as caught:
        sdk.chat.completions.create(**kwargs)
    assert caught.value.param == param
    assert caught.value.code == code
    assert caught.value.type is not None
    assert caught.value.request_id is not None
    assert param in caught.value.message


def test_tools_are_refused_by_name(sdk: openai.OpenAI):
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=MESSAGES, tools=tools)
    assert caught.value.param == "tools"


def test_the_newer_endpoints_are_refused_by_name(sdk: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="/v1/responses"):
        sdk.responses.create(model=MODEL, input="hi")


def test_a_client_that_stops_reading_frees_its_place(sdk: openai.OpenAI, server: str):
    stream = sdk.completions.create(
        model=MODEL, prompt="a", max_tokens=2000, stream=True, logit_bias={"0": -100}
    )
    next(iter(stream))
    stream.close()
    for _ in range(10_000):
        if "num_requests_running 0.0" in httpx.get(f"{server}/metrics").text:
            break
    else:
        pytest.fail("the text went on")


async def _ask_all(server: str) -> list[str | None]:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none") as client:
        answers = [
            await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=5, seed=seed
            )
            for seed in (1, 1, 2)
        ]
    return [answer.choices[0].message.content for answer in answers]


def test_the_asynchronous_client_gets_the_same(server: str):
    first, again, other = asyncio.run(_ask_all(server))
    assert first == again
    assert first != other
