"""`/v1/states` over HTTP: states that are made, gone on from, moved and forgotten."""

import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving.access import KeyRing
from receptance.serving.app import ServerApp, create_app
from receptance.serving.settings import Settings
from tests.serving.event_streams import refused, streamed
from tests.serving.http_server import served

PATH = "/v1/states"
CHAT = "/v1/chat/completions"
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is a state?"},
    {"role": "assistant", "content": "All that is remembered."},
]
NEXT = {"role": "user", "content": "Of what?"}
NOBODYS = "state-" + "0" * 32


def made(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"model": "tiny", **body})
    assert response.status_code == 200, response.text
    return response.json()


def chat(client: httpx.Client, *messages: dict[str, str], **body: Any) -> dict[str, Any]:
    asked = {"model": "tiny", "messages": list(messages), "max_tokens": 24, "seed": 3, **body}
    response = client.post(CHAT, json=asked)
    assert response.status_code == 200, response.text
    return response.json()


def said(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


def test_a_state_is_described_by_what_a_client_wants_to_know(
    client: httpx.Client, lm: LanguageModel
):
    state = made(client, prompt="Once upon a time", name="a tale")
    n_bytes = sum(each.nbytes for each in lm.zero_state().tensors.values())
    created = state.pop("created")
    assert type(created) is int
    assert state == {
        "id": state["id"],
        "object": "state",
        "model": "tiny",
        "name": "a tale",
        "tokens": len("Once upon a time"),
        "bytes": n_bytes,
    }
    assert len(state["id"]) == len(NOBODYS)
    assert client.get(f"{PATH}/{state['id']}").json() == {**state, "created": created}
    assert state["id"] in [each["id"] for each in client.get(PATH).json()["data"]]


def test_a_chat_goes_on_from_a_state_as_from_the_whole_conversation(client: httpx.Client):
    state = made(client, messages=TURNS)
    short = chat(client, NEXT, state=state["id"])
    whole = chat(client, *TURNS, NEXT)
    assert said(short) == said(whole)
    n_before = whole["usage"]["prompt_tokens"] - short["usage"]["prompt_tokens"]
    assert state["tokens"] == n_before


def test_a_state_is_made_on_top_of_another(client: httpx.Client):
    first = made(client, messages=TURNS[:2])
    second = made(client, messages=TURNS[2:], state=first["id"])
    assert second["tokens"] == made(client, messages=TURNS)["tokens"]
    assert said(chat(client, NEXT, state=second["id"])) == said(chat(client, *TURNS, NEXT))


def test_a_completion_goes_on_from_a_state(client: httpx.Client):
    state = made(client, prompt=list(b"Once upon "))
    body = {"model": "tiny", "max_tokens": 16, "seed": 5}
    whole = client.post("/v1/completions", json={**body, "prompt": "Once upon a time"}).json()
    body |= {"prompt": "a time", "state": state["id"]}
    assert client.post("/v1/completions", json=body).json()["choices"] == whole["choices"]
    error = refused(client.post("/v1/completions", json={**body, "prompt": ""}), 400)
    assert error["param"] == "prompt"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_the_state_after_an_answer_is_kept_if_that_is_wanted(client: httpx.Client, path: str):
    prompt = {"messages": [NEXT]} if path == CHAT else {"prompt": "Of what?"}
    body = {"model": "tiny", "max_tokens": 10, "seed": 3, "save_state": True, **prompt}
    answer = client.post(path, json=body).json()
    n_tokens = answer["usage"]["total_tokens"]
    assert n_tokens - 5 <= answer["state"]["tokens"] <= n_tokens
    assert client.get(f"{PATH}/{answer['state']['id']}").json() == answer["state"]
    again = {**body, "state": answer["state"]["id"]}
    more = client.post(path, json=again).json()
    assert more["state"]["tokens"] > answer["state"]["tokens"]
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    events = client.post(path, json={**body, **usage}).text.split("\n\n")
    *chunks, last = [json.loads(each[6:]) for each in events[:-2]]
    assert last["state"]["tokens"] == answer["state"]["tokens"]
    assert last["usage"]["total_tokens"] == n_tokens
    assert all("state" not in each for each in chunks)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_a_stream_names_the_kept_state_in_an_event_of_its_own(client: httpx.Client, path: str):
    """Behind all choices and before "[DONE]", whether the usage was asked for or not."""
    prompt = {"messages": [NEXT]} if path == CHAT else {"prompt": "Of what?"}
    *chunks, last, done = streamed(client, path, max_tokens=3, save_state=True, **prompt)
    assert done == "[DONE]"
    assert all(each["choices"] and "state" not in each for each in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"]
    assert last["choices"] == []
    assert "usage" not in last
    assert last["id"] == chunks[0]["id"]
    assert client.get(f"{PATH}/{last['state']['id']}").json() == last["state"]


def test_a_fork_goes_its_own_way(client: httpx.Client):
    state = made(client, messages=TURNS, name="one")
    fork = client.post(f"{PATH}/{state['id']}/fork", json={}).json()
    named = client.post(f"{PATH}/{state['id']}/fork", json={"name": "two"}).json()
    assert (fork["name"], named["name"]) == ("one (fork)", "two")
    assert fork["tokens"] == state["tokens"]
    told = client.delete(f"{PATH}/{state['id']}").json()
    assert told == {"id": state["id"], "object": "state", "deleted": True}
    refused(client.get(f"{PATH}/{state['id']}"), 404)
    assert said(chat(client, NEXT, state=fork["id"])) == said(chat(client, *TURNS, NEXT))


def exported(client: httpx.Client, **body: Any) -> bytes:
    response = client.get(f"{PATH}/{made(client, **body)['id']}/content")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].endswith('.safetensors"')
    return response.content


def imported(client: httpx.Client, content: bytes) -> httpx.Response:
    headers = {"content-type": "application/octet-stream"}
    return client.post(f"{PATH}/import", content=content, headers=headers)


def test_a_state_goes_out_as_a_file_and_comes_back(
    client: httpx.Client, lm: LanguageModel, tmp_path: Any
):
    content = exported(client, messages=TURNS, name="ünï")
    state = imported(client, content).json()
    assert state["name"] == "ünï"
    assert state["tokens"] == made(client, messages=TURNS)["tokens"]
    assert said(chat(client, NEXT, state=state["id"])) == said(chat(client, *TURNS, NEXT))
    file = tmp_path / "state.safetensors"
    file.write_bytes(content)
    assert lm.load_state(file).batch_size == 1


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return a file with some of it changed, cut, moved or added; most of that in its header."""
    file = bytearray(content)
    end = 8 + int.from_bytes(file[:8], "little")
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(end if chance.random() < 0.8 else len(file))
        match chance.randrange(5):
            case 0:
                file[place] ^= 1 << chance.randrange(8)
            case 1:
                del file[place : place + chance.randint(1, 40)]
            case 2:
                file[place:place] = chance.randbytes(chance.randint(1, 40))
            case 3:
                file[place : place + 2] = chance.choice([b"[[", b"99", b"\xff\xff", b'"}', b"-1"])
            case _:
                file[:8] = chance.choice([0, 2**63, end, len(file), 7]).to_bytes(8, "little")
    return bytes(file)


def check_mutations(app: ServerApp, client: httpx.Client, number: int) -> None:
    """Import so many changed files; none may be an error of ours, or a state that cannot be."""
    content = exported(client, prompt="a state to be changed")
    chance = random.Random(1)
    for _ in range(number):
        file = mutated(content, chance)
        response = imported(client, file)
        if response.status_code == 200:
            client.delete(f"{PATH}/{response.json()['id']}")
        else:
            assert refused(response, 400)["code"] == "invalid_state"
    assert app.room.is_alive


def test_changed_files_are_refused_or_harmless(app: ServerApp, client: httpx.Client):
    check_mutations(app, client, 150)


@pytest.mark.slow
def test_many_changed_files_are_refused_or_harmless(app: ServerApp, client: httpx.Client):
    check_mutations(app, client, 5000)


@pytest.mark.parametrize("content", [b"", b"12345678", b"\0" * 100, b"\xff" * 100_000])
def test_what_is_no_state_is_refused(client: httpx.Client, content: bytes):
    assert refused(imported(client, content), 400)["code"] == "invalid_state"


def test_a_file_must_say_that_it_is_one(client: httpx.Client):
    refused(client.post(f"{PATH}/import", json={}), 415)


def test_a_state_that_is_not_there_is_told_before_anything_begins(client: httpx.Client):
    for id_ in (NOBODYS, "state-1", "..", "/etc/passwd", "state-" + "A" * 32, "\x00", "x" * 999):
        for body in ({"stream": True}, {}):
            asked = {"model": "tiny", "messages": [NEXT], "state": id_, **body}
            error = refused(client.post(CHAT, json=asked), 404)
            assert (error["code"], error["param"]) == ("state_not_found", "state")
    for answer in (
        client.get(f"{PATH}/{NOBODYS}"),
        client.get(f"{PATH}/{NOBODYS}/content"),
        client.delete(f"{PATH}/{NOBODYS}"),
        client.post(f"{PATH}/{NOBODYS}/fork", json={}),
        client.get(f"{PATH}/import"),
        client.get(f"{PATH}/http:%2f%2fexample.com"),
    ):
        refused(answer, 404)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": TURNS}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [999]}, "prompt"),
        ({"prompt": "a" * 3001}, "prompt"),
        ({"prompt": "a", "name": "n" * 201}, "name"),
        ({"prompt": "a", "name": 3}, "name"),
        ({"prompt": "a", "path": "a"}, "path"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 3001}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field(
    client: httpx.Client, body: dict[str, Any], param: str
):
    assert refused(client.post(PATH, json=body), 400)["param"] == param


def test_instructions_cannot_be_added_to_a_state(client: httpx.Client):
    state = made(client, messages=TURNS)["id"]
    asked = {"model": "tiny", "messages": [TURNS[0], NEXT], "state": state}
    assert refused(client.post(CHAT, json=asked), 400)["param"] == "messages[0].role"


def test_one_state_is_kept_for_one_text(client: httpx.Client):
    asks: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": [NEXT], "n": 2}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/completions", {"prompt": "a", "best_of": 2}),
    ]
    for path, body in asks:
        response = client.post(path, json={"model": "tiny", "save_state": True, **body})
        assert refused(response, 400)["param"] == "save_state"


def test_a_key_has_its_own_states_and_as_many_as_it_may(lm: LanguageModel):
    keys = KeyRing(["me:sk-0123456789abcdef", "you:sk-fedcba9876543210"])
    settings = Settings(max_sequences=2, max_states_per_key=2)
    app = create_app(lm, settings, keys=keys, model_name="tiny")
    with (
        served(app) as url,
        httpx.Client(base_url=url, headers={"authorization": "Bearer sk-0123456789abcdef"}) as mine,
        httpx.Client(
            base_url=url, headers={"authorization": "Bearer sk-fedcba9876543210"}
        ) as yours,
    ):
        state = made(mine, prompt="my secret")
        assert yours.get(PATH).json() == {"object": "list", "data": []}
        one = f"{PATH}/{state['id']}"
        body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
        for stolen in (
            yours.get(one),
            yours.get(f"{one}/content"),
            yours.delete(one),
            yours.post(f"{one}/fork", json={}),
            yours.post("/v1/completions", json={**body, "state": state["id"]}),
            yours.post(PATH, json={"prompt": "a", "state": state["id"]}),
        ):
            told = refused(stolen, 404)
            assert told["message"] == refused(yours.get(one), 404)["message"]
        content = mine.get(f"{one}/content").content
        made(mine, prompt="another")
        for more in (
            mine.post(PATH, json={"prompt": "a"}),
            mine.post(f"{one}/fork", json={}),
            mine.post("/v1/completions", json={**body, "save_state": True}),
            imported(mine, content),
        ):
            assert refused(more, 409)["code"] == "too_many_states"
        assert imported(yours, content).status_code == 200
        mine.delete(one)
        made(mine, prompt="a third")


def test_a_server_that_keeps_no_states_says_so(lm: LanguageModel):
    app = create_app(lm, Settings(max_sequences=2, max_states_per_key=0), model_name="tiny")
    with served(app) as url:
        assert refused(httpx.get(f"{url}{PATH}"), 404)["code"] == "states_not_kept"
        refused(httpx.post(f"{url}{PATH}", json={"prompt": "a"}), 404)


def test_a_place_that_was_not_used_is_free_again(lm: LanguageModel):
    settings = Settings(max_sequences=2, max_states_per_key=1, max_prompt_tokens=10)
    app = create_app(lm, settings, model_name="tiny")
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1, "save_state": True}
    long = "longer than ten tokens"
    with served(app) as url, httpx.Client(base_url=url) as client:
        refused(client.post("/v1/completions", json={**body, "prompt": long}), 400)
        refused(client.post(PATH, json={"prompt": long}), 400)
        refused(imported(client, b"no state"), 400)
        assert client.post("/v1/completions", json=body).status_code == 200
        refused(client.post("/v1/completions", json=body), 409)


def test_a_state_in_a_folder_is_there_for_the_next_server(lm: LanguageModel, tmp_path: Path):
    settings = Settings(max_sequences=2, state_folder=tmp_path)
    with (
        served(create_app(lm, settings, model_name="tiny")) as url,
        httpx.Client(base_url=url) as client,
    ):
        state = made(client, messages=TURNS, name="kept")
        first = said(chat(client, NEXT, state=state["id"]))
        content = client.get(f"{PATH}/{state['id']}/content").content
    with (
        served(create_app(lm, settings, model_name="tiny")) as url,
        httpx.Client(base_url=url) as client,
    ):
        assert client.get(PATH).json()["data"] == [state]
        assert said(chat(client, NEXT, state=state["id"])) == first
        assert client.get(f"{PATH}/{state['id']}/content").content == content
        assert client.delete(f"{PATH}/{state['id']}").status_code == 200
        assert client.get(PATH).json()["data"] == []


def test_a_state_that_is_larger_than_other_bodies_comes_back(lm: LanguageModel):
    app = create_app(lm, Settings(max_sequences=2, max_body_bytes=300), model_name="tiny")
    with served(app) as url, httpx.Client(base_url=url) as client:
        state = made(client, prompt="a text")
        assert state["bytes"] > 300
        content = client.get(f"{PATH}/{state['id']}/content").content
        assert imported(client, content).status_code == 200
