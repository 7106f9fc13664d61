"""`/v1/states`: states that are kept, to be gone on from at any time.

A state is all that a recurrent model remembers of a text, and of one size however long that was.
"""

import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response

from receptance.errors import RequestError
from receptance.inference import Request, SamplingParams
from receptance.serving.chat import Message
from receptance.serving.engine_room import Job, Ticket
from receptance.serving.protocol import ForkBody, StateBody, require_possible_state
from receptance.serving.routes.chat_completions import render
from receptance.serving.routes.completions import tokens_of
from receptance.serving.routes.keeping import Start, aside, kept_aside, reserved_aside, start_of
from receptance.serving.routes.leaving import begun, unless_left
from receptance.serving.routes.read_once import ReadOnceRoute
from receptance.serving.routes.service import Service, owner_of
from receptance.serving.routes.writing import leave_all
from receptance.serving.state_store import MAX_NAME_CHARACTERS, Kept, Place

_FILE = "application/octet-stream"
_IMPORT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {_FILE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {_FILE: {"schema": {"type": "string", "format": "binary"}}}}
}
_NOTHING = "`{}` must hold at least one token, but it is empty"


def states_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/states", route_class=ReadOnceRoute)
    _add_making(router, service)
    _add_having(router, service)
    return router


def _add_making(router: APIRouter, service: Service) -> None:
    """Add the routes that make a state."""
    store = service.states

    @router.post("", response_model=None)
    async def create_state(body: StateBody, request: HTTPRequest) -> Response:
        """Read a text or messages, and keep the state after them."""
        work = _begin(service, body, owner_of(request))
        making = await begun(request, work, leave=_Making.leave, settings=service.settings)
        return await unless_left(request, making.made(), making.leave)

    @router.post("/import", response_model=None, openapi_extra=_IMPORT)
    async def import_state(request: HTTPRequest) -> Response:
        """Keep a state that comes as a file, which `/v1/states/{id}/content` gave."""
        content = await request.body()
        place = await reserved_aside(store, owner_of(request))
        try:
            return _told(service, await kept_aside(place, store.import_content, place, content))
        finally:
            place.leave()

    @router.post("/{state_id}/fork", response_model=None)
    async def fork_state(
        state_id: str, request: HTTPRequest, body: ForkBody | None = None
    ) -> Response:
        """Keep a state once more, to go on from it in another way."""
        body = body or ForkBody()
        service.require_served(body, None)
        owner = owner_of(request)
        kept, state = await aside(store.read, owner, state_id)
        name = f"{kept.name} (fork)"[-MAX_NAME_CHARACTERS:] if body.name is None else body.name
        place = await reserved_aside(store, owner)
        return _told(service, await kept_aside(place, place.keep, name, kept.tokens, state))


def _add_having(router: APIRouter, service: Service) -> None:
    """Add the routes that tell of a state, give it out, and forget it."""
    store = service.states

    @router.get("", response_model=None)
    async def list_states(request: HTTPRequest) -> Response:
        """List what the key keeps, the latest first."""
        states = await aside(store.of_owner, owner_of(request))
        data = [each.object(service.model_id) for each in states]
        return JSONResponse({"object": "list", "data": data})

    @router.get("/{state_id}", response_model=None)
    async def retrieve_state(state_id: str, request: HTTPRequest) -> Response:
        """Describe a state."""
        return _told(service, await aside(store.find, owner_of(request), state_id))

    @router.get("/{state_id}/content", response_model=None, responses=_CONTENT)
    async def state_content(state_id: str, request: HTTPRequest) -> Response:
        """Return a state as a safetensors file."""
        content = await aside(store.content, owner_of(request), state_id)
        name = f'attachment; filename="{state_id}.safetensors"'
        return Response(content, media_type=_FILE, headers={"content-disposition": name})

    @router.delete("/{state_id}", response_model=None)
    async def delete_state(state_id: str, request: HTTPRequest) -> Response:
        """Forget a state."""
        await aside(store.remove, owner_of(request), state_id)
        return JSONResponse({"id": state_id, "object": "state", "deleted": True})


async def _tokens(service: Service, body: StateBody, owner: str, start: Start) -> list[int]:
    """Return what is to be read."""
    if body.messages is not None:
        field = "messages"
        messages = [Message(each.role, each.text) for each in body.messages]
        goes_on = start.state is not None
        prompt = await render(service, messages, owner=owner, goes_on=goes_on, asks=False)
        tokens = prompt.tokens
    else:
        assert body.prompt is not None
        field = "prompt"
        (tokens,) = await tokens_of(service, body.prompt, [field])
    if not tokens:
        raise RequestError(_NOTHING.format(field), param=field)
    return tokens


@dataclass(frozen=True)
class _Making:
    """A state that the engine is at."""

    service: Service
    name: str
    n_tokens: int
    place: Place
    ticket: Ticket

    def leave(self) -> None:
        """End what nobody waits for any more."""
        leave_all([self.ticket])
        self.place.leave()

    async def made(self) -> Response:
        """Keep the state once it is there."""
        (finished,) = await self.ticket.finished()
        state = finished.generation.state
        keep = self.place.keep
        return _told(
            self.service, await kept_aside(self.place, keep, self.name, self.n_tokens, state)
        )


async def _begin(service: Service, body: StateBody, owner: str) -> _Making:
    """Check a request, and let the engine read what is to be read."""
    arrived = time.monotonic()
    service.require_served(body, body.model)
    require_possible_state(body, service.settings)
    start = await start_of(service, owner, body.state)
    tokens = await _tokens(service, body, owner, start)
    params = SamplingParams(max_tokens=0)
    request = Request(tokens, params, state=start.state, cache_scope=start.cache_scope(owner))
    place = await reserved_aside(service.states, owner)
    try:
        field = "prompt" if body.messages is None else "messages"
        job = Job(request=request, owner=owner, param=field, arrived=arrived)
        ticket = await service.room.submit(job)
    except BaseException:
        place.leave()
        raise
    return _Making(service, body.name or "", start.tokens + len(tokens), place, ticket)


def _told(service: Service, kept: Kept) -> Response:
    return JSONResponse(kept.object(service.model_id))
