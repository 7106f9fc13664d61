"""Clients of every kind at once, each with a secret of its own in what it sends."""

import asyncio
import hashlib
import json
import random
import re
from dataclasses import dataclass
from typing import Any

import httpx

CANARY = re.compile(r"canary-[0-9a-f]{12}")
KEYS = {name: f"{name}-0123456789abcdef" for name in ("anna", "ben", "cleo")}

STATES = "/v1/states"

# Beginnings that prompts share, within a key and between keys; two are longer than the states
# that are kept within a prompt are apart.
_BEGINNINGS = ["", "Once upon a time ", "it rained. " * 30, "a b c d " * 140, "a b c d " * 300]
_FORMS: list[dict[str, Any]] = [
    {"type": "regex", "pattern": "[a-f]{2,9}( [0-9]+)?"},
    {"type": "json_object"},
    {
        "type": "json_schema",
        "json_schema": {
            "name": "pair",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    },
]


@dataclass(frozen=True)
class Asked:
    """One request."""

    owner: str
    path: str
    body: dict[str, Any]
    canary: str
    leaves_after: float | None
    """Seconds after which it leaves, whatever came; None stays."""
    n_events: int | None
    """Events of a stream after which it leaves; None reads to the end."""

    @property
    def headers(self) -> dict[str, str]:
        """Of the request."""
        return {"authorization": f"Bearer {KEYS[self.owner]}"}


def random_request(draw: random.Random) -> Asked:
    """Return a request of any kind, whose answer is the same whenever it is asked."""
    canary = f"canary-{draw.getrandbits(48):012x}"
    prompt = _prompt(draw, canary)
    body: dict[str, Any] = {"model": "tiny"}
    kind = draw.random()
    if kind < 0.1:
        path = "/v1/embeddings"
        body["input"] = [prompt, *(_prompt(draw, canary) for _ in range(draw.randint(0, 2)))]
    elif kind < 0.2:
        path = STATES
        body |= {"prompt": prompt, "name": canary}
    else:
        body |= _choices(draw)
        if kind < 0.5:
            path = "/v1/chat/completions"
            body["messages"] = [{"role": "user", "content": prompt}]
            if draw.random() < 0.5:
                turns = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "?"}]
                body["messages"] += turns
            if draw.random() < 0.3:
                body |= {"logprobs": True, "top_logprobs": draw.randint(0, 5)}
        else:
            path = "/v1/completions"
            body["prompt"] = _as_prompt(draw, prompt)
            body |= {"echo": draw.random() < 0.5}
            if draw.random() < 0.3:
                body["logprobs"] = draw.randint(0, 5)
            elif not body.get("stream") and draw.random() < 0.1:
                body["best_of"] = body["n"] + 1
    leaves = draw.random() < 0.25
    is_stream = bool(body.get("stream"))
    return Asked(
        owner=draw.choice(sorted(KEYS)),
        path=path,
        body=body,
        canary=canary,
        leaves_after=draw.random() * 0.1 if leaves and not is_stream else None,
        n_events=draw.randint(0, 8) if leaves and is_stream else None,
    )


def _prompt(draw: random.Random, canary: str) -> str:
    """Return a prompt that begins as others do, or goes on where its like ended."""
    text = draw.choice(_BEGINNINGS)
    if draw.random() < 0.5:
        text += f"{canary} "
    return text + draw.choice(["and then", "in the end", "é" * 9, "z" * 70]) + f" {canary}"


def _as_prompt(draw: random.Random, text: str) -> Any:
    kind = draw.random()
    if kind < 0.7:
        return text
    if kind < 0.85:
        return list(text.encode())
    return [text, f"{text}."]


def _choices(draw: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "max_tokens": draw.randint(1, 24),
        "temperature": draw.choice((0.0, 0.8, 1.5)),
        "seed": draw.randint(0, 3),
        "n": draw.choice((1, 1, 1, 2, 3)),
        "stream": draw.random() < 0.6,
    }
    if draw.random() < 0.2:
        options["stop"] = [draw.choice("xyz"), "no such end"]
    if draw.random() < 0.2:
        options |= {"repetition_penalty": 1.3, "frequency_penalty": 0.5}
    if draw.random() < 0.2:
        options |= {"top_p": 0.8, "top_k": 40}
    if draw.random() < 0.2:
        options["logit_bias"] = {"0": -100, "101": 2.5}
    if draw.random() < 0.3:
        options["response_format"] = draw.choice(_FORMS)
    return options


@dataclass
class Told:
    """What a request got."""

    raw: str
    """All bytes of header and body, which no foreign secret may be in."""
    answer: Any
    """What it says, but for what is new each time; None if the client left."""


async def ask(client: httpx.AsyncClient, asked: Asked) -> Told:
    """Ask, as patiently as `asked` says."""
    if asked.leaves_after is not None:
        try:
            async with asyncio.timeout(asked.leaves_after):
                return await _ask(client, asked)
        except TimeoutError:
            return Told("", None)
    return await _ask(client, asked)


async def _ask(client: httpx.AsyncClient, asked: Asked) -> Told:
    """Ask for what the path gives."""
    return await (_ask_state if asked.path == STATES else _ask_once)(client, asked)


async def _ask_state(client: httpx.AsyncClient, asked: Asked) -> Told:
    """Keep a state, go on from it twice, take it out as a file, and forget it.

    Nobody else finds it.
    """
    raw = ""

    async def call(
        method: str, path: str, owner: str, status: int, body: Any = None
    ) -> httpx.Response:
        nonlocal raw
        headers = {"authorization": f"Bearer {KEYS[owner]}"}
        response = await client.request(method, path, json=body, headers=headers)
        raw += f"{response.headers}\n{response.content.decode('latin-1')}\n"
        assert response.status_code == status, (asked, response.text)
        return response

    made = (await call("POST", STATES, asked.owner, 200, asked.body)).json()
    path = f"{STATES}/{made['id']}"
    on = {"model": "tiny", "prompt": "and", "state": made["id"], "temperature": 0, "max_tokens": 9}
    said = [
        (await call("POST", "/v1/completions", asked.owner, 200, on)).json()["choices"]
        for _ in range(2)
    ]
    for other in KEYS.keys() - {asked.owner}:
        await call("GET", f"{path}/content", other, 404)
        await call("POST", "/v1/completions", other, 404, on)
        await call("DELETE", path, other, 404)
    content = (await call("GET", f"{path}/content", asked.owner, 200)).content
    await call("DELETE", path, asked.owner, 200)
    assert said[0] == said[1]
    return Told(raw, (made["tokens"], hashlib.sha256(content).hexdigest(), said))


async def _ask_once(client: httpx.AsyncClient, asked: Asked) -> Told:
    request = client.build_request("POST", asked.path, json=asked.body, headers=asked.headers)
    response = await client.send(request, stream=True)
    received, n_events = "", 0
    try:
        assert response.status_code == 200, (asked, await response.aread())
        async for piece in response.aiter_text():
            received += piece
            n_events += piece.count("\n\n")
            if asked.n_events is not None and n_events > asked.n_events:
                break
    finally:
        await response.aclose()
    raw = f"{response.headers}\n{received}"
    if asked.n_events is not None:
        return Told(raw, None)
    return Told(raw, _streamed(received) if asked.body.get("stream") else _said(received))


def _said(received: str) -> Any:
    answer = json.loads(received)
    answer["usage"].pop("prompt_tokens_details", None)  # what was remembered is no part of a text
    return {key: answer[key] for key in answer if key in ("choices", "data", "usage")}


def _streamed(received: str) -> Any:
    """Return the choices of a stream, joined."""
    *events, done, empty = received.split("\n\n")
    assert (done, empty) == ("data: [DONE]", ""), received[-200:]
    texts: dict[int, str] = {}
    ends: dict[int, str] = {}
    logprobs: dict[int, list[Any]] = {}
    for event in events:
        if event.startswith(":"):
            continue
        for choice in json.loads(event.removeprefix("data: "))["choices"]:
            index = choice["index"]
            said = choice["text"] if "text" in choice else choice["delta"].get("content")
            texts[index] = texts.get(index, "") + (said or "")
            if choice["finish_reason"] is not None:
                ends[index] = choice["finish_reason"]
            logprobs.setdefault(index, []).extend(_numbers(choice.get("logprobs")))
    return texts, ends, logprobs


def _numbers(logprobs: Any) -> list[Any]:
    """Return what is said of each token, however many came at once."""
    if not logprobs:
        return []
    if "content" in logprobs:
        return list(logprobs["content"])
    names = sorted(name for name in logprobs if logprobs[name] is not None)
    rows = zip(*(logprobs[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]
