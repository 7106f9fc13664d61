"""Who would find no place is told so before anything else is done for the request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from receptance.serving.engine_room import EngineRoom
from receptance.serving.routes.service import ANONYMOUS

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
"""Whose requests take places."""


class TurningAway:
    """Refuses requests while there is no place, so that a crowd costs those inside next to nothing.

    Reading what a request says, tokens, grammars and templates take far longer than to refuse it.
    """

    def __init__(self, app: ASGIApp, room: EngineRoom) -> None:
        """Stand before an app.

        Args:
            app: What answers, within the perimeter.
            room: Where the places are.
        """
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, if there may be a place for it.

        Raises:
            RequestError: 429 if there is none.
        """
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PATHS:
            self._room.require_place(scope.get("state", {}).get("owner", ANONYMOUS))
        await self._app(scope, receive, send)
