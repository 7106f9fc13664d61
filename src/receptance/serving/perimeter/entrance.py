"""The door: which paths exist at all, and who may pass."""

from starlette.types import ASGIApp, Receive, Scope, Send

from receptance.errors import RequestError
from receptance.serving.access import KeyRing
from receptance.serving.perimeter.headers import header_values

OPEN_PATHS = frozenset({"/", "/favicon.ico", "/health", "/v1/health", "/ready"})
"""What everybody may read: the page, which holds nothing of anybody, and whether we are well."""

OPEN_FOLDERS = ("/static/",)


class Entrance:
    """Lets a request in that has a key, and says whose it is; without keys, everybody's."""

    def __init__(self, app: ASGIApp, keys: KeyRing | None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its path in one spelling and its owner in `state`.

        Raises:
            RequestError: 404 for a path that climbs, 401 without a key that fits.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = _one_spelling(scope["path"])
        if self._keys is not None and not _is_open(scope["method"], path):
            scope["state"]["owner"] = _owner(self._keys, header_values(scope, b"authorization"))
        await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, send)


def _one_spelling(path: str) -> str:
    """Return a path without a slash at its end; there is none with a dot for a part."""
    if {".", ".."} & set(path.replace("\\", "/").split("/")) or not path.isprintable():
        message = "there is nothing at this path"
        raise RequestError(message, status=404, code="not_found")
    return path.rstrip("/") or "/"


def _is_open(method: str, path: str) -> bool:
    return method == "GET" and (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS))


def _owner(keys: KeyRing, authorizations: list[bytes]) -> str:
    if not authorizations:
        message = "a request must have a key, but has none; send 'Authorization: Bearer KEY'"
        raise RequestError(message, status=401, code="missing_api_key")
    owner = keys.owner(authorizations[0].decode("latin-1")) if len(authorizations) == 1 else None
    if owner is None:
        message = "the key must be one that the server knows, but it is not; ask whoever runs it"
        raise RequestError(message, status=401, code="invalid_api_key")
    return owner
