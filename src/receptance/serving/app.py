"""The server as an ASGI app: routes, errors in one form, and the engine room's life."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from receptance.errors import ConfigError, RequestError
from receptance.inference import LanguageModel
from receptance.serving.access import KeyRing
from receptance.serving.chat import FolderTemplate, find_template
from receptance.serving.engine_room import EngineRoom
from receptance.serving.error_form import error_body, error_headers
from receptance.serving.grammar import GrammarCompiler
from receptance.serving.metrics import Metrics
from receptance.serving.page import page_routes
from receptance.serving.perimeter import wrap
from receptance.serving.protocol import invalid_body
from receptance.serving.routes import (
    Service,
    SideThread,
    TurningAway,
    fingerprint_of,
    routers,
)
from receptance.serving.settings import Settings
from receptance.serving.state_store import open_store
from receptance.version import package_version

DEFAULT_MODEL_NAME = "receptance"
"""What a model is called that came from no file."""


_MAX_NAME = 200


class ServerApp:
    """What answers requests, and the engine room behind it, which it starts and ends."""

    def __init__(self, asgi: ASGIApp, room: EngineRoom, service: Service) -> None:
        """Take the parts.

        Args:
            asgi: What answers, with all that stands around it.
            room: Of the engine; the app's lifespan starts and closes it.
            service: What the routes share.
        """
        self._asgi = asgi
        self.room = room
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or begin and end, as ASGI says."""
        await self._asgi(scope, receive, send)


def create_app(
    lm: LanguageModel,
    settings: Settings,
    *,
    keys: KeyRing | None = None,
    model_name: str | None = None,
    chat_template: str | None = None,
) -> ServerApp:
    """Return the server of a model.

    Args:
        lm: The model, with a tokenizer.
        settings: All limits.
        keys: Who may call; None lets everybody.
        model_name: What clients call the model; None is the name of its file or folder.
        chat_template: How conversations are written; None is as the model's folder says, or else
            the authors' way.

    Raises:
        TokenizerError: If the model has no tokenizer.
        ConfigError: If `model_name` is none, there is too little memory, or `state_folder` cannot
            be written in.
        ValueError: If there is no such template.
    """
    check_model_name(model_name)
    metrics = Metrics()
    room = EngineRoom(lm, settings, metrics)
    service = Service(
        lm=lm,
        settings=settings,
        room=room,
        metrics=metrics,
        model_id=name_of(lm) if model_name is None else model_name,
        template=find_template(lm, chat_template, lm.tokenizer),
        grammars=GrammarCompiler(lm.tokenizer),
        states=open_store(lm, settings),
        side=SideThread("side", max_waiting=max(1, settings.max_waiting_per_key)),
        fingerprint=fingerprint_of(lm),
    )

    api = FastAPI(
        title="receptance",
        version=package_version(),
        lifespan=_lifespan_of(service),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": _REFUSAL, "5XX": _REFUSAL},
    )
    for router in routers(service):
        api.include_router(router)
    api.router.routes.extend(page_routes())
    api.add_exception_handler(RequestError, _on_request_error)
    api.add_exception_handler(RequestValidationError, _on_invalid_body)
    api.add_exception_handler(HTTPException, _on_http_error)
    file_bytes = service.states.max_content_bytes
    asgi = wrap(TurningAway(api, room), settings, keys, file_bytes=file_bytes)
    return ServerApp(asgi, room, service)


def _lifespan_of(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what starts the engine room, and in the end closes what has a thread or a child."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.room.start()
        yield
        await service.room.close()
        service.side.close()
        await asyncio.to_thread(service.grammars.close)
        if isinstance(service.template, FolderTemplate):
            await asyncio.to_thread(service.template.close)

    return lifespan


def check_model_name(name: str | None) -> None:
    """Refuse what no client could call a model.

    Args:
        name: What clients are to call it; None is left to the server.

    Raises:
        ConfigError: If nothing can be seen of it, or it is too long.
    """
    if name is None or (name.strip() and name.isprintable() and len(name) <= _MAX_NAME):
        return
    raise ConfigError(
        f"the model's name must be 1 to {_MAX_NAME} letters that can be seen, but it is "
        f"{name[:_MAX_NAME]!r}; leave --model-name out for that of its file"
    )


def name_of(lm: LanguageModel) -> str:
    """Return what clients call a model that got no other name: no path, and safe in a URL."""
    stem = "" if lm.path is None else lm.path.stem if lm.path.is_file() else lm.path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or DEFAULT_MODEL_NAME


_ERROR = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
}
_REFUSAL: dict[str, Any] = {
    "description": "The request is refused, or failed.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": _ERROR}}
        }
    },
}


_MAX_ERRORS = 64  # of a body; each takes time, and one is told


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return Response(error_body(error), error.status, error_headers(error))


async def _on_invalid_body(request: Request, error: Exception) -> Response:
    """Answer to a body that is no JSON, or not of the shape that was declared."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[:_MAX_ERRORS]
    errors = [{**each, "loc": each["loc"][1:]} for each in first]
    if any(each["type"] == "json_invalid" for each in errors):
        refusal = RequestError("the body must be JSON, but it cannot be read", code="invalid_json")
    else:
        refusal = invalid_body(errors, error.body)
    return await _on_request_error(request, refusal)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Answer to what the framework refuses: an unknown path, or a method that a path has not."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path[:200]
    told = {
        404: (f"{method} {path} is nothing that is served here", "unknown_endpoint"),
        405: (f"{method} is not what {path} is asked by", "method_not_allowed"),
    }
    message, code = told.get(error.status_code, ("the request cannot be read", None))
    refusal = RequestError(message, status=error.status_code, code=code)
    response = await _on_request_error(request, refusal)
    if allow := (error.headers or {}).get("Allow"):
        response.headers["allow"] = allow
    return response
