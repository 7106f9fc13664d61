"""A parser of event streams that takes nothing for granted, as clients write their own."""

import asyncio
import json
from typing import Any

import httpx


def events_of(raw: bytes) -> list[Any]:
    """Return the data of all events, "[DONE]" as a text, comments left out.

    Every event is one line of data and an empty line, as the simplest clients suppose.
    """
    assert raw.endswith(b"\n\n")
    events: list[Any] = []
    for block in raw.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        assert block.startswith("data: "), block
        assert "\n" not in block
        data = block.removeprefix("data: ")
        events.append(data if data == "[DONE]" else json.loads(data))
    return events


def streamed(client: httpx.Client, path: str, **body: Any) -> list[Any]:
    """Return the events that a request gets."""
    with client.stream("POST", path, json={"model": "tiny", "stream": True, **body}) as response:
        raw = response.read()
        assert response.status_code == 200, raw
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events_of(raw)


def refused(response: httpx.Response, status: int) -> dict[str, Any]:
    """Return the error of an answer that must be a refusal in OpenAI's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return body["error"]


def is_on_a_loop() -> bool:
    """Whether an event loop runs on this thread, and waits until the caller is done."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
