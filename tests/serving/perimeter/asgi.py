"""A small app to guard, and a client that calls ASGI without a network."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message

Headers = Sequence[tuple[str, str]]
JSON = ("content-type", "application/json")


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_finished: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json()["error"]


async def _echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "owner": request.state.owner,
            "request_id": request.state.request_id,
            "n_bytes": len(body),
            "json": getattr(request.state, "json", None),
        }
    )


async def _text(request: Request) -> PlainTextResponse:
    del request
    return PlainTextResponse("fine", headers={"cache-control": "no-cache", "x-request-id": "mine"})


async def _crash(request: Request) -> PlainTextResponse:
    raise ZeroDivisionError(request.headers.get("x-prompt"))


async def _stream(request: Request) -> StreamingResponse:
    del request

    async def pieces():
        yield b"data: 1\n\n"
        raise ZeroDivisionError

    return StreamingResponse(pieces(), media_type="text/event-stream")


ROUTES: dict[str, list[str]] = {
    "/": ["GET"],
    "/static/page.js": ["GET"],
    "/health": ["GET"],
    "/v1/health": ["GET"],
    "/ready": ["GET"],
    "/metrics": ["GET"],
    "/version": ["GET"],
    "/v1/models": ["GET"],
    "/v1/models/owner/name": ["GET"],
    "/v1/chat/completions": ["POST"],
    "/v1/completions": ["POST"],
    "/v1/embeddings": ["POST"],
    "/tokenize": ["POST"],
    "/detokenize": ["POST"],
    "/tokenizer_info": ["GET"],
    "/v1/states": ["GET", "POST"],
    "/v1/states/state-1": ["GET", "DELETE"],
    "/v1/states/state-1/fork": ["POST"],
    "/v1/states/state-1/content": ["GET"],
    "/v1/states/import": ["POST"],
}


def small_app() -> Starlette:
    """Return an app with the server's paths, whose answers say what came in."""
    return Starlette(
        routes=[
            *(Route(path, _echo, methods=methods) for path, methods in ROUTES.items()),
            Route("/text", _text),
            Route("/crash", _crash),
            Route("/stream", _stream),
        ]
    )


def call(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Headers = (),
    host: str | None = "localhost:8000",
    body: bytes | Sequence[bytes] = b"",
) -> Answer:
    """Send one request to an app and return its answer."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    named = [*((("host", host),) if host is not None else ()), *headers]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.partition("?")[0].encode("utf-8", errors="replace"),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in named],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "state": {},
    }
    answer = Answer()

    async def receive() -> Message:
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")
            answer.is_finished = not message.get("more_body", False)

    asyncio.run(_run(app, scope, receive, send))
    return answer


async def _run(app: ASGIApp, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)
