"""What stands between the network and the app: no request passes that is not safe to look at.

    Answers      an id, safe headers and our form of errors, on every answer
    Origins      which names are ours, and which pages may call
    Entrance     which paths exist, and whose a request is
    Bodies       JSON, of a size and a depth

All are plain ASGI, so that a client that leaves is seen at once. Inside, `request.state` has
`request_id`, `owner` ("anonymous" where the server has no keys) and, where there is a body,
`json`: what it says.
"""

from starlette.types import ASGIApp

from receptance.serving.access import KeyRing
from receptance.serving.perimeter.answers import Answers, UnreadError
from receptance.serving.perimeter.bodies import Bodies
from receptance.serving.perimeter.entrance import Entrance
from receptance.serving.perimeter.origins import Origins
from receptance.serving.settings import Settings

__all__ = ["UnreadError", "wrap"]


def wrap(
    app: ASGIApp, settings: Settings, keys: KeyRing | None = None, *, file_bytes: int = 0
) -> ASGIApp:
    """Return the app as the network may see it.

    Args:
        app: What answers.
        settings: The limits, the names of the server and the pages that may call it.
        keys: Who may call; None lets everybody.
        file_bytes: What a body may take that is a file, if that is more than another may.
    """
    return Answers(Origins(Entrance(Bodies(app, settings, file_bytes), keys), settings))
