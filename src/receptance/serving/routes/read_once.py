"""Routes whose bodies the perimeter has read already, a long one on a thread of its own."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


class ReadOnceRoute(APIRoute):
    """A route that takes a body's value from the perimeter.

    To read eight megabytes of JSON again would hold up the event loop, and so all streams.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def handle_read(request: Request) -> Response:
            return await handle(_ReadRequest(request.scope, request.receive))

        return handle_read


class _ReadRequest(Request):
    """A request whose body was read, unless nobody did."""

    async def json(self) -> Any:
        state = self.scope.get("state", {})
        return state["json"] if "json" in state else await super().json()
