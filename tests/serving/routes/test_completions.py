"""`/v1/completions` over HTTP."""

import json
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel, SamplingParams
from receptance.serving.protocol import TokenTexts
from tests.serving.event_streams import is_on_a_loop, refused, streamed

PATH = "/v1/completions"


def ask(client: httpx.Client, **body: Any) -> dict[str, Any]:
    body = {"model": "tiny", "prompt": "abc", "max_tokens": 6, "seed": 1, **body}
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def texts_of(answer: dict[str, Any]) -> list[str]:
    return [each["text"] for each in answer["choices"]]


def test_an_answer_has_openais_shape(client: httpx.Client):
    answer = ask(client)
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == "tiny"
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] in (0, 3)


def test_an_answer_is_what_the_model_writes_alone(client: httpx.Client, lm: LanguageModel):
    alone = lm.generate("abc", SamplingParams(max_tokens=30, seed=5, temperature=0.8, top_p=0.9))
    answer = ask(client, max_tokens=30, seed=5, temperature=0.8, top_p=0.9)
    assert texts_of(answer) == [alone.text]


def test_a_prompt_may_be_text_or_tokens_one_or_many(client: httpx.Client):
    (one,) = texts_of(ask(client))
    tokens = [97, 98, 99]
    assert texts_of(ask(client, prompt=tokens)) == [one]
    assert texts_of(ask(client, prompt=[tokens, tokens])) == [one, one]
    several = ask(client, prompt=["abc", "x"])
    assert [each["index"] for each in several["choices"]] == [0, 1]
    assert texts_of(several)[0] == one
    assert texts_of(several)[1] == texts_of(ask(client, prompt="x"))[0]
    assert several["usage"]["prompt_tokens"] == 4


def test_no_prompt_begins_a_new_text(client: httpx.Client):
    assert texts_of(ask(client, prompt="")) == texts_of(ask(client, prompt=None))
    assert ask(client, prompt="")["usage"]["prompt_tokens"] == 0


def test_several_texts_of_several_prompts_stand_in_the_order_of_the_prompts(client: httpx.Client):
    answer = ask(client, prompt=["abc", "x"], n=2)
    assert [each["index"] for each in answer["choices"]] == [0, 1, 2, 3]
    assert texts_of(answer)[:2] == texts_of(ask(client, n=2))
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["completion_tokens"] == 24


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_is_the_same_answer(client: httpx.Client, echo: bool):
    body = {"prompt": ["abc", "x"], "n": 2, "max_tokens": 9, "seed": 1, "echo": echo}
    whole = ask(client, **body)
    *chunks, done = streamed(client, PATH, **body)
    assert done == "[DONE]"
    for index, text in enumerate(texts_of(whole)):
        theirs = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == index]
        assert "".join(each["text"] for each in theirs) == text
        assert [each["finish_reason"] for each in theirs][-1] == "length"
        assert theirs[-1]["text"] == ""
        assert all("finish_reason" in each for each in theirs)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def test_echo_gives_the_prompt_back_before_the_text(client: httpx.Client):
    (plain,) = texts_of(ask(client))
    assert texts_of(ask(client, echo=True)) == ["abc" + plain]
    assert texts_of(ask(client, echo=True, prompt=[97, 98, 99])) == ["abc" + plain]


def test_logprobs_are_four_lists_of_the_counted_tokens(client: httpx.Client):
    answer = ask(client, logprobs=2)
    said = answer["choices"][0]["logprobs"]
    assert {len(each) for each in said.values()} == {answer["usage"]["completion_tokens"]}
    assert set(said) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    for logprob, top in zip(said["token_logprobs"], said["top_logprobs"], strict=True):
        assert logprob in top.values()
        assert 2 <= len(top) <= 3
    *chunks, _ = streamed(client, PATH, prompt="abc", max_tokens=6, seed=1, logprobs=2)
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    joined = {name: [each for part in parts if part for each in part[name]] for name in said}
    assert joined == said


def test_a_harness_can_score_by_echo(client: httpx.Client, lm: LanguageModel):
    """The way of lm-eval's `local-completions`."""
    context, continuation = [97, 98], [99, 100, 101]
    body = {"prompt": [context + continuation, [5, 6, 7]], "echo": True, "logprobs": 1}
    answer = ask(client, **body, max_tokens=1, temperature=0, seed=1234)
    for choice in answer["choices"]:
        said = choice["logprobs"]
        assert said["token_logprobs"][0] is None
        assert said["top_logprobs"][0] is None
        assert said["text_offset"][0] == 0
    said = answer["choices"][0]["logprobs"]
    assert len(said["tokens"]) == 6
    scored = said["token_logprobs"][len(context) : -1]
    assert scored == pytest.approx(lm.score(context, continuation), abs=1e-4)
    # The last token was chosen greedily, so it is the likeliest one exactly.
    assert max(said["top_logprobs"][-1].values()) == said["token_logprobs"][-1]


def test_a_prompt_can_be_scored_without_writing(client: httpx.Client):
    answer = ask(client, echo=True, logprobs=1, max_tokens=0)
    assert texts_of(answer) == ["abc"]
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == 3
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["choices"][0]["finish_reason"] == "length"


def test_the_best_are_those_with_the_greatest_mean_logprob(client: httpx.Client):
    drafts = ask(client, n=4, logprobs=0)
    means = [
        sum(each["logprobs"]["token_logprobs"]) / len(each["logprobs"]["tokens"])
        for each in drafts["choices"]
    ]
    order = sorted(range(4), key=lambda i: means[i], reverse=True)
    best = ask(client, n=2, best_of=4)
    assert texts_of(best) == [texts_of(drafts)[i] for i in order[:2]]
    assert [each["index"] for each in best["choices"]] == [0, 1]
    assert best["usage"]["completion_tokens"] == 24
    assert best["choices"][0]["logprobs"] is None


def test_json_is_written_if_it_is_asked_for(client: httpx.Client):
    answer = ask(client, response_format={"type": "json_object"}, max_tokens=400, seed=3)
    if answer["choices"][0]["finish_reason"] == "stop":
        assert type(json.loads(answer["choices"][0]["text"])) is dict
    assert texts_of(answer)[0].lstrip().startswith("{")


def test_a_completion_of_nothing_begins_a_new_text(client: httpx.Client):
    asked = {"model": "tiny", "max_completion_tokens": 12, "seed": 3}
    new = client.post(PATH, json=asked).json()
    assert new["usage"]["completion_tokens"] <= 12
    assert texts_of(new) == texts_of(client.post(PATH, json={**asked, "prompt": ""}).json())
    assert texts_of(new) == texts_of(ask(client, prompt="", max_tokens=12, seed=3))


def test_a_seed_of_minus_one_gives_another_text_each_time(client: httpx.Client):
    texts = {
        texts_of(ask(client, max_tokens=12, seed=-1, logit_bias={"0": -100}))[0] for _ in range(3)
    }
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 99}, "best_of"),
        ({"prompt": ["a"] * 9}, "prompt"),
        ({"prompt": [256]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**50]}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    client: httpx.Client, change: dict[str, Any], param: str
):
    error = refused(client.post(PATH, json={"model": "tiny", "prompt": "a", **change}), 400)
    assert error["param"] == param


@pytest.mark.parametrize("content", ["", "{", "[1", '{"model": "tiny", "n": NaN}', "null", "[]"])
def test_a_body_that_is_no_object_of_json_is_refused(client: httpx.Client, content: str):
    headers = {"content-type": "application/json"}
    refused(client.post(PATH, content=content, headers=headers), 400)


@pytest.mark.parametrize(("max_tokens", "is_there"), [(9, True), (150, False)])
def test_long_lists_of_logprobs_are_written_off_the_event_loop(
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    max_tokens: int,
    is_there: bool,
):
    loops: list[bool] = []
    name = TokenTexts.name

    def watched(self: TokenTexts, token: int) -> str:
        loops.append(is_on_a_loop())
        return name(self, token)

    monkeypatch.setattr(TokenTexts, "name", watched)
    prompt = "x" * max_tokens
    body = {"prompt": prompt, "logprobs": 20, "echo": True, "max_tokens": max_tokens, "seed": 1}
    whole = ask(client, **body)
    assert len(whole["choices"][0]["logprobs"]["tokens"]) > max_tokens
    assert set(loops) == {is_there}
    loops.clear()
    streamed(client, PATH, **body)
    assert loops[0] is is_there  # the prompt comes at once, and later tokens one by one


def test_logprobs_are_of_the_text_alone_where_a_stop_text_ends_it(client: httpx.Client):
    body = {"max_tokens": 60, "seed": 4, "logprobs": 1, "logit_bias": {"0": -100}}
    (whole,) = ask(client, **body)["choices"]
    stop = whole["text"][20:23]
    answer = ask(client, **body, stop=stop)
    (stopped,) = answer["choices"]
    assert stopped["finish_reason"] == "stop"
    said, end = stopped["logprobs"], len(stopped["text"])
    n = sum(offset < end for offset in whole["logprobs"]["text_offset"])
    assert {name: each[:n] for name, each in whole["logprobs"].items()} == said
    assert n < answer["usage"]["completion_tokens"]  # the stop text was written, and is counted
    *chunks, _ = streamed(client, PATH, prompt="abc", stop=stop, **body)
    parts = [chunk["choices"][0] for chunk in chunks]
    assert "".join(each["text"] for each in parts) == stopped["text"]
    told = [each["logprobs"] for each in parts if each["logprobs"]]
    assert {name: [each for part in told for each in part[name]] for name in said} == said
