"""A body that the perimeter has read is not read again."""

from typing import Any

from fastapi import APIRouter, Body, FastAPI
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from receptance.serving.app import ServerApp
from receptance.serving.routes import routers
from receptance.serving.routes.read_once import ReadOnceRoute
from tests.serving.perimeter.asgi import JSON, call


def test_the_value_that_was_read_is_taken_and_else_the_body_is_read():
    router = APIRouter(route_class=ReadOnceRoute)

    @router.post("/")
    async def echo(body: dict[str, int] = Body()) -> dict[str, int]:  # noqa: B008
        return body

    api = FastAPI()
    api.include_router(router)

    async def behind_a_reader(scope: Scope, receive: Receive, send: Send) -> None:
        await api({**scope, "state": {"json": {"read": 1}}}, receive, send)

    def asked(app: Any) -> Any:
        return call(app, "POST", "/", headers=[JSON], body=b'{"sent": 2}').json()

    assert asked(behind_a_reader) == {"read": 1}
    assert asked(api) == {"sent": 2}


def test_no_route_of_ours_reads_json_twice(app: ServerApp):
    posts = [
        route
        for router in routers(app.service)
        for route in router.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    ]
    assert len(posts) >= 5
    assert all(isinstance(route, ReadOnceRoute) for route in posts)
