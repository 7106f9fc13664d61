"""Gives a browser the page's files: read once, held in memory, never looked up by path."""

import hashlib
from dataclasses import dataclass
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receptance.errors import RequestError

# Nothing comes from elsewhere and nothing goes there. No script or style stands in the HTML, and
# with Trusted Types the browser itself refuses any code that would turn text into HTML.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# Beside those that every answer of the server has.
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    # A browser asks each time whether its copy is current, so that an update of the package is
    # seen at once and files of two versions never meet.
    "cache-control": "no-cache",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True)
class StaticFile:
    """One file as it is sent."""

    content: bytes
    media_type: str
    etag: str


def read_static_files() -> dict[str, StaticFile]:
    """Read every file of the page from the package.

    Returns:
        The files by their names, such as "index.html".
    """
    files = {}
    for entry in resources.files("receptance.serving.page").joinpath("static").iterdir():
        media_type = _MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
            files[entry.name] = StaticFile(content, media_type, etag)
    return files


def page_routes() -> list[Route]:
    """Make the routes of the page: `/`, `/static/NAME` and `/favicon.ico`.

    Returns:
        Routes for a Starlette or FastAPI application. A name that is no file of the page raises
        `RequestError` with status 404.
    """
    files = read_static_files()

    def answer(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            message = "the page has no such file"
            raise RequestError(message, status=404, code="not_found")
        headers = {**_HEADERS, "etag": file.etag}
        known = request.headers.get("if-none-match", "")
        if file.etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    async def index(request: Request) -> Response:
        return answer(request, "index.html")

    async def icon(request: Request) -> Response:
        return answer(request, "icon.svg")

    async def static(request: Request) -> Response:
        return answer(request, request.path_params["name"])

    # A HEAD request is answered by Starlette with the headers of the GET.
    return [
        Route("/", index, methods=["GET"]),
        Route("/favicon.ico", icon, methods=["GET"]),
        Route("/static/{name:path}", static, methods=["GET"]),
    ]
