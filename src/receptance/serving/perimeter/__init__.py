"""What stands between the network and the app: no request passes that is not safe to look at.

    Answers      an id, safe headers and our form of errors, on every answer
    Entrance     which paths exist, and whose a request is

All are plain ASGI, so that a client that leaves is seen at once. Inside, `request.state` has
`request_id` and `owner` ("anonymous" where the server has no keys).
"""

from starlette.types import ASGIApp

from receptance.serving.access import KeyRing
from receptance.serving.perimeter.answers import Answers
from receptance.serving.perimeter.entrance import Entrance
from receptance.serving.settings import Settings

__all__ = ["wrap"]


def wrap(app: ASGIApp, settings: Settings, keys: KeyRing | None = None) -> ASGIApp:
    """Return the app as the network may see it.

    Args:
        app: What answers.
        settings: The limits.
        keys: Who may call; None lets everybody.
    """
    del settings
    return Answers(Entrance(app, keys))
