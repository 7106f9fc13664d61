"""Which names the server answers to, and which web pages may call it.

A page of the web can make its reader's browser call any address, also one of this machine. It
cannot choose the headers `Host` and `Origin`, so these tell: a name that is not ours was bound to
our address by somebody else (DNS rebinding), and an origin that is not ours is another's page.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from receptance.errors import RequestError
from receptance.serving.perimeter.headers import header_values
from receptance.serving.settings import Settings

ALLOWED_HEADERS = ", ".join(
    [
        *("accept", "authorization", "content-type", "user-agent", "x-request-id"),
        *("openai-organization", "openai-project", "openai-beta", "idempotency-key"),
        *("x-stainless-arch", "x-stainless-async", "x-stainless-custom-poll-interval"),
        *("x-stainless-helper-method", "x-stainless-lang", "x-stainless-os"),
        *("x-stainless-package-version", "x-stainless-poll-helper", "x-stainless-raw-response"),
        *("x-stainless-read-timeout", "x-stainless-retry-count", "x-stainless-runtime"),
        *("x-stainless-runtime-version", "x-stainless-timeout"),
    ]
)
"""What a page may send: what OpenAI's clients do."""

_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE, OPTIONS"),
    (b"access-control-allow-headers", ALLOWED_HEADERS.encode()),
    (b"access-control-max-age", b"600"),
]
_EXPOSED = b"x-request-id, retry-after, retry-after-ms, x-should-retry"


class Origins:
    """Refuses other names than ours and calls from others' pages, and lets chosen pages call."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._names = {"localhost", settings.host.lower().strip("[]")}
        self._allowed_hosts = tuple(name.lower() for name in settings.allowed_hosts)
        self._pages = frozenset(origin.lower().rstrip("/") for origin in settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on whose host is ours and whose page, if any, may call.

        Raises:
            RequestError: 403 for another host, or a page that may not.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = b"".join(header_values(scope, b"host")).decode("latin-1").lower()
        self._check_host(host)
        origin = b", ".join(header_values(scope, b"origin")).decode("latin-1").lower()
        if origin and self._may_call(origin):
            scope["state"]["answer_headers"] += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            ]
            if _is_preflight(scope):
                await send({"type": "http.response.start", "status": 204, "headers": _PREFLIGHT})
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._app(scope, receive, send)
            return
        is_strange = bool(origin) and not self._is_own_page(origin, host)
        is_reading = scope["method"] in ("GET", "HEAD", "OPTIONS")
        if _is_preflight(scope) or (is_strange and not is_reading):
            message = (
                "a page that calls must be one that the server allows, but this one is not; start "
                "it with --cors-origin"
            )
            raise RequestError(message, status=403, code="origin_not_allowed")
        await self._app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        """Refuse a name that is not ours.

        An address in digits was not bound to anything; and no browser leaves the header out.
        """
        name = _name_of(host)
        if host and not (name in self._names or _is_address(name) or self._is_allowed(name)):
            message = (
                "the header `Host` must have a name of this server, but has another; start it "
                "with --allowed-host NAME"
            )
            raise RequestError(message, status=403, code="host_not_allowed")

    def _is_allowed(self, name: str) -> bool:
        """Whether a name was allowed: itself, `*.` and its domain, or `*` for any."""
        return any(
            each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:]))
            for each in self._allowed_hosts
        )

    def _may_call(self, origin: str) -> bool:
        return "*" in self._pages or origin in self._pages

    def _is_own_page(self, origin: str, host: str) -> bool:
        """Whether a page came from here, also behind a proxy that has an allowed name."""
        netloc = _netloc_of(origin)
        return bool(netloc) and (netloc == host or self._is_allowed(_name_of(netloc)))


def _name_of(host: str) -> str:
    """Return a host without its port, and an address without its brackets; "" if it is none."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and (not port or port[1:].isdigit()) else ""
    name, colon, port = host.partition(":")
    return name if not colon or port.isdigit() else ""


def _netloc_of(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what a page may do, before it does it."""
    return scope["method"] == "OPTIONS" and bool(
        header_values(scope, b"access-control-request-method")
    )
