"""`/v1/chat/completions` over HTTP."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel, SamplingParams
from receptance.serving import Settings
from receptance.serving.app import ServerApp
from receptance.serving.chat import Message
from receptance.serving.routes.chat_completions import render
from tests.serving.event_streams import refused, streamed

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
LETTERS = {"type": "regex", "pattern": "[a-z]{4,9}"}


def ask(client: httpx.Client, **body: Any) -> dict[str, Any]:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 8, "seed": 1, **body}
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_has_openais_shape(client: httpx.Client):
    answer = ask(client)
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert type(answer["created"]) is int
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"].startswith("fp_")
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"]["role"] == "assistant"
    assert choice["logprobs"] is None
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "timings" not in answer


def test_what_clients_send_by_habit_changes_nothing(client: httpx.Client):
    habits = {
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "reasoning_effort": "none",
    }
    assert ask(client, **habits)["choices"] == ask(client)["choices"]


def test_an_answer_is_what_the_model_writes_after_the_rendered_turns(
    client: httpx.Client, lm: LanguageModel
):
    prompt = "User: Hello\n\nAssistant:"
    params = SamplingParams(max_tokens=8, seed=1, stop=("\n\nUser",))
    alone = lm.generate(prompt, params)
    answer = ask(client)
    assert answer["choices"][0]["message"]["content"] == alone.text.lstrip()
    assert answer["usage"]["prompt_tokens"] == alone.prompt_tokens
    assert answer["usage"]["completion_tokens"] == alone.generated_tokens


def test_a_stream_is_the_same_answer(client: httpx.Client):
    whole = ask(client, max_tokens=40)["choices"][0]
    *chunks, done = streamed(client, PATH, messages=MESSAGES, max_tokens=40, seed=1)
    assert done == "[DONE]"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


def test_a_stream_begins_with_the_role_and_ends_with_the_reason_alone(client: httpx.Client):
    *chunks, done = streamed(client, PATH, messages=MESSAGES, response_format=LETTERS)
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert choices[-1]["delta"] == {}
    assert choices[-1]["finish_reason"] == "stop"
    assert [each["finish_reason"] for each in choices[:-1]] == [None] * (len(choices) - 1)
    assert all(set(each["delta"]) == {"content"} for each in choices[1:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len({chunk["created"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, None])
def test_usage_is_streamed_only_if_it_is_asked_for_by_name(client: httpx.Client, options: Any):
    *chunks, _ = streamed(client, PATH, messages=MESSAGES, max_tokens=2, stream_options=options)
    assert all("usage" not in chunk for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


def test_usage_is_one_chunk_more_and_null_in_the_others(client: httpx.Client):
    usage = {"include_usage": True}
    *chunks, last, done = streamed(
        client, PATH, messages=MESSAGES, max_tokens=2, stream_options=usage
    )
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2


def test_several_answers_come_with_their_index(client: httpx.Client):
    answer = ask(client, n=3)
    texts = [each["message"]["content"] for each in answer["choices"]]
    assert [each["index"] for each in answer["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == ask(client)["choices"][0]["message"]["content"]
    assert answer["usage"]["prompt_tokens"] == ask(client)["usage"]["prompt_tokens"]
    chunks = streamed(client, PATH, messages=MESSAGES, max_tokens=8, seed=1, n=3)[:-1]
    for index, text in enumerate(texts):
        theirs = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == index]
        assert "".join(each["delta"].get("content", "") for each in theirs) == text
        assert [each["finish_reason"] for each in theirs].count(None) == len(theirs) - 1


def test_a_seed_gives_an_answer_again_and_no_seed_another(client: httpx.Client):
    def text(**body: Any) -> str:
        return ask(client, max_tokens=20, **body)["choices"][0]["message"]["content"]

    assert text(seed=7) == text(seed=7)
    assert text(seed=7) != text(seed=8)
    assert text(seed=None) != text(seed=None)


def test_logprobs_are_of_every_token_that_was_counted(client: httpx.Client):
    answer = ask(client, logprobs=True, top_logprobs=3)
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == answer["usage"]["completion_tokens"]
    for entry in content:
        assert set(entry) == {"token", "bytes", "logprob", "top_logprobs"}
        assert entry["logprob"] <= 0
        tops = [each["logprob"] for each in entry["top_logprobs"]]
        assert len(tops) == 3
        assert tops == sorted(tops, reverse=True)
    bare = ask(client, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [each["top_logprobs"] for each in bare] == [[]] * len(bare)


def test_a_greedy_answer_is_of_the_likeliest_tokens(client: httpx.Client):
    answer = ask(client, temperature=0, logprobs=True, top_logprobs=1)
    for entry in answer["choices"][0]["logprobs"]["content"]:
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"]


def test_streamed_logprobs_are_those_of_the_whole(client: httpx.Client):
    whole = ask(client, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    body = {"messages": MESSAGES, "max_tokens": 8, "seed": 1, "logprobs": True, "top_logprobs": 2}
    *chunks, _ = streamed(client, PATH, **body)
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert parts[0] is None
    assert parts[-1] is None
    assert [entry for part in parts if part for entry in part["content"]] == whole


def test_a_stop_text_ends_an_answer_and_is_not_in_it(client: httpx.Client):
    form = {"type": "regex", "pattern": "abcdefgh"}
    answer = ask(client, max_tokens=20, response_format=form, stop=["zz", "ef"])
    assert answer["choices"][0]["message"]["content"] == "abcd"
    assert answer["choices"][0]["finish_reason"] == "stop"
    *chunks, _ = streamed(
        client, PATH, messages=MESSAGES, response_format=form, stop="ef", max_tokens=20
    )
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "abcd"


def test_logprobs_are_of_what_is_said_and_not_of_what_is_cut_off(client: httpx.Client):
    form = {"type": "regex", "pattern": "abcdefgh"}
    body = {"max_tokens": 20, "logprobs": True}
    stopped = ask(client, **body, response_format=form, stop="ef")
    assert _named(stopped) == ["a", "b", "c", "d"]
    assert stopped["usage"]["completion_tokens"] == 6
    spaces = ask(client, **body, logit_bias={"32": 100, "10": 100})
    assert spaces["choices"][0]["message"]["content"] == ""
    assert _named(spaces) == []
    streamed_spaces = {"messages": MESSAGES, **body, "logit_bias": {"32": 100, "10": 100}}
    *chunks, _ = streamed(client, PATH, **streamed_spaces)
    assert [chunk["choices"][0]["logprobs"] for chunk in chunks] == [None, None]


def _named(answer: dict[str, Any]) -> list[str]:
    return [each["token"] for each in answer["choices"][0]["logprobs"]["content"]]


def test_length_is_said_only_where_the_limit_cut(client: httpx.Client):
    form = {"type": "regex", "pattern": "abcd"}
    cut = ask(client, response_format=form, max_tokens=3)["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("abc", "length")
    whole = ask(client, response_format=form, max_completion_tokens=10, max_tokens=2)["choices"][0]
    assert (whole["message"]["content"], whole["finish_reason"]) == ("abcd", "stop")


def test_a_schema_is_kept_to(client: httpx.Client):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = ask(client, response_format=form, max_tokens=200)["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert json.loads(answer["message"]["content"])["a"] in (1, 2)


def test_a_bias_forces_and_forbids(client: httpx.Client):
    answer = ask(client, logit_bias={"97": 100}, max_tokens=5)
    assert answer["choices"][0]["message"]["content"] == "aaaaa"


def test_timings_come_if_asked_for(client: httpx.Client):
    timings = ask(client, timings=True)["timings"]
    assert timings["predicted_n"] == 8
    assert timings["predicted_ms"] > 0
    unread = [{"role": "user", "content": "How long does it take to read this?"}]
    *_, last, done = streamed(client, PATH, messages=unread, max_tokens=2, timings=True)
    assert done == "[DONE]"
    assert last["timings"]["prompt_n"] > 0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"strange": 1}, "strange"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages[0].content[0].type"),
        ({"n": 9}, "n"),
        ({"max_tokens": 2001}, "max_tokens"),
        ({"max_completion_tokens": 2001}, "max_completion_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logit_bias": {"256": 1}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(
    client: httpx.Client, change: dict[str, Any], param: str
):
    body = {"model": "tiny", "messages": MESSAGES, **change}
    error = refused(client.post(PATH, json=body), 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_a_model_that_is_not_here_is_not_replaced_by_another(client: httpx.Client):
    error = refused(client.post(PATH, json={"model": "gpt-5", "messages": MESSAGES}), 404)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"


def test_a_prompt_beyond_the_limit_is_refused(client: httpx.Client):
    messages = [{"role": "user", "content": "x" * 5000}]
    error = refused(client.post(PATH, json={"model": "tiny", "messages": messages}), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


def test_the_next_turn_reads_only_what_is_new(client: httpx.Client):
    first = {"role": "user", "content": "A long question, which is read once. " * 20}
    answer = ask(client, messages=[first], response_format=LETTERS)
    text = answer["choices"][0]["message"]["content"]
    n_first = answer["usage"]["prompt_tokens"]
    messages = [first, {"role": "assistant", "content": text}, {"role": "user", "content": "And?"}]
    usage = ask(client, messages=messages)["usage"]
    assert n_first <= usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    again = ask(client, messages=messages)["usage"]  # another answer needs no reading at all
    assert again["prompt_tokens_details"]["cached_tokens"] == again["prompt_tokens"]


def test_many_turns_that_say_little_are_written_off_the_event_loop(
    app: ServerApp, monkeypatch: pytest.MonkeyPatch
):
    loops: list[int] = []
    template = type(app.service.template)
    write = template.render

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        loops.append(threading.get_ident())
        return write(self, *args, **options)

    monkeypatch.setattr(template, "render", watched)
    for n in (1, 200):
        asyncio.run(render(app.service, [Message("user", "a")] * n))
    here = threading.get_ident()
    assert [each == here for each in loops] == [True, False]


def test_a_conversation_may_have_a_part_in_each_message_but_not_any_number_of_parts(
    client: httpx.Client,
):
    part = {"type": "text", "text": "a"}
    said = {"role": "user", "content": [part]}
    asked = {"model": "tiny", "messages": [said] * Settings().max_messages}
    error = refused(client.post(PATH, json=asked), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    many = {"role": "user", "content": [part] * 20_000}
    error = refused(client.post(PATH, json={"model": "tiny", "messages": [many]}), 400)
    assert error["code"] == "invalid_json"
