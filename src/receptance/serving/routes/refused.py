"""Endpoints that clients of other servers ask for, refused by name with what to ask instead."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter

from receptance.errors import RequestError

_CHAT = "use /v1/chat/completions"
_COMPLETIONS = "use /v1/completions"
_NOT_HERE = "it is nothing that this server does"

REFUSED: Mapping[str, str] = {
    "/v1/responses": _CHAT,
    "/v1/messages": _CHAT,
    "/v1/messages/count_tokens": "use /tokenize",
    "/v1/complete": _COMPLETIONS,
    "/v1/edits": _CHAT,
    "/api/chat": _CHAT,
    "/api/generate": _COMPLETIONS,
    "/api/embed": "use /v1/embeddings",
    "/api/embeddings": "use /v1/embeddings",
    "/api/tags": "use /v1/models",
    "/api/show": "use /v1/models",
    "/completion": _COMPLETIONS,
    "/v1/moderations": _NOT_HERE,
    "/v1/audio/speech": _NOT_HERE,
    "/v1/audio/transcriptions": _NOT_HERE,
    "/v1/images/generations": _NOT_HERE,
    "/v1/files": _NOT_HERE,
    "/v1/batches": "use `receptance generate --input`",
    "/v1/rerank": _NOT_HERE,
    "/v1/score": "use /v1/completions with `echo`, `logprobs` and `max_tokens` 0",
}
"""The paths, and what a client is told."""


def refused_router() -> APIRouter:
    """Return the routes, all of which answer 404."""
    router = APIRouter()
    for path, advice in REFUSED.items():
        router.add_api_route(
            path, _refuse(path, advice), methods=["GET", "POST"], include_in_schema=False
        )
    return router


def _refuse(path: str, advice: str) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise RequestError(
            f"{path} is not served by this server; {advice}", status=404, code="unknown_endpoint"
        )

    return refuse
