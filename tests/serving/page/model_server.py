"""A server that answers as ours does, with texts that a test chooses by what it asks."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from receptance.errors import RequestError
from receptance.serving.page import page_routes

STATE_BYTES = 1_966_080
META = {"state_bytes": STATE_BYTES, "n_layer": 24, "n_embd": 1024, "n_params": 430_397_440}


def refusal(status: int, message: str, code: str, **headers: str) -> JSONResponse:
    error = {"message": message, "type": "error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)


class ModelServer:
    """Serves the page and a made-up model; remembers every request that came."""

    def __init__(self) -> None:
        self.key = ""
        self.names = ["rwkv-4-430m"]
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.n_cancelled = 0
        self.states: dict[str, dict[str, Any]] | None = {}
        self.answers: dict[str, str] = {}
        self.delay_seconds = 0.0
        app = Starlette(
            routes=[
                *page_routes(),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/states", self.list_states, methods=["GET"]),
                Route("/v1/states", self.create_state, methods=["POST"]),
                Route("/v1/states/import", self.import_state, methods=["POST"]),
                Route("/v1/states/{id}", self.delete_state, methods=["DELETE"]),
                Route("/v1/states/{id}/fork", self.fork_state, methods=["POST"]),
                Route("/v1/states/{id}/content", self.state_content, methods=["GET"]),
            ],
            exception_handlers={RequestError: self.refuse},
        )
        self.app = app
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        options: dict[str, Any] = {"log_level": "critical", "lifespan": "off", "ws": "none"}
        config = uvicorn.Config(self.record, interface="asgi3", http="h11", **options)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)

    def start(self) -> None:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(10)
        self.socket.close()

    def reset(self) -> None:
        """Forget what a test did, for the next."""
        self.key, self.states, self.delay_seconds = "", {}, 0.0
        for each in (self.bodies, self.requests, self.answers):
            each.clear()
        self.names = ["rwkv-4-430m"]
        self.n_cancelled = 0

    async def record(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.requests.append((scope["method"], scope["path"]))
        await self.app(scope, receive, send)

    async def refuse(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return refusal(error.status, str(error), error.code or "")

    def has_key(self, request: Request) -> bool:
        return not self.key or request.headers.get("authorization") == f"Bearer {self.key}"

    async def models(self, request: Request) -> Response:
        if not self.has_key(request):
            return refusal(401, "a key must be given", "invalid_api_key")
        rest = {"object": "model", "created": 0, "owned_by": "receptance", "meta": META}
        return JSONResponse(
            {"object": "list", "data": [{"id": each, **rest} for each in self.names]}
        )

    async def chat(self, request: Request) -> Response:
        if not self.has_key(request):
            return refusal(401, "a key must be given", "invalid_api_key")
        body = await request.json()
        self.bodies.append(body)
        asked = body["messages"][-1]["content"]
        if "state" in body and body["state"] not in (self.states or {}):
            return refusal(404, "there is no such state", "state_not_found")
        if asked == "refuse":
            wait = {"retry-after": "7"}
            return refusal(429, "the queue is full", "queue_full", **wait)
        return StreamingResponse(self.stream(asked), media_type="text/event-stream")

    async def stream(self, asked: str) -> AsyncIterator[str]:
        def event(delta: dict[str, str], finish: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
            return f"data: {json.dumps({**chunk, 'usage': None}, ensure_ascii=False)}\n\n"

        text = self.answers.get(asked, f"You said: {asked}")
        words = text.split(" ") if asked != "endless" else ["on"] * 100_000
        is_over = False
        try:
            yield event({"role": "assistant", "content": ""})
            for index, word in enumerate(words):
                yield event({"content": f" {word}" if index else word})
                await asyncio.sleep(0.005 if asked == "endless" else self.delay_seconds)
            is_over = True
        finally:
            self.n_cancelled += not is_over
        if asked == "break":
            return
        if asked == "fail":
            error = {"message": "the engine failed", "type": "server_error", "code": "engine_error"}
            yield f"data: {json.dumps({'error': error})}\n\n"
            return
        yield event({}, "stop")
        usage: dict[str, Any] = {"prompt_tokens": 1204, "completion_tokens": len(words)}
        usage["prompt_tokens_details"] = {"cached_tokens": 1100}
        yield f": ping\n\ndata: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    async def list_states(self, _request: Request) -> Response:
        if self.states is None:
            return refusal(404, "there is no such path", "not_found")
        return JSONResponse({"object": "list", "data": list(self.states.values())})

    def keep(self, name: str, tokens: int) -> Response:
        assert self.states is not None
        made: dict[str, Any] = {
            "id": f"state-{len(self.states) + 1}",
            "object": "state",
            "name": name,
        }
        made |= {"created": 0, "tokens": tokens, "bytes": STATE_BYTES, "model": "rwkv-4-430m"}
        self.states[made["id"]] = made
        return JSONResponse(made)

    async def create_state(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        return self.keep(body["name"], 12_480)

    async def import_state(self, request: Request) -> Response:
        content = await request.body()
        return self.keep("imported", len(content))

    async def fork_state(self, request: Request) -> Response:
        assert self.states is not None
        state = self.states[request.path_params["id"]]
        return self.keep(f"{state['name']} (fork)", state["tokens"])

    async def delete_state(self, request: Request) -> Response:
        assert self.states is not None
        del self.states[request.path_params["id"]]
        return JSONResponse({"deleted": True})

    async def state_content(self, _request: Request) -> Response:
        return Response(b"weights", media_type="application/octet-stream")
