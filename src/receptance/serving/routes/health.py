"""How the server is: for balancers, for dashboards, and for whoever wonders."""

import asyncio
import time

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from receptance.errors import RequestError
from receptance.inference import Request, SamplingParams
from receptance.serving.engine_room import Job
from receptance.serving.metrics import CONTENT_TYPE
from receptance.serving.routes.service import Service
from receptance.version import package_version

_PROBE = "health"  # the owner of the probe, which is in nobody's queue


class _Probe:
    """Asks the engine for a token, at most once in a while however often it is asked itself."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._asked_at = -float("inf")
        self._error: RequestError | None = None

    async def ask(self) -> None:
        """Return if the engine wrote a token of late, or had too much to do to come to it.

        Raises:
            RequestError: 503 if it did not.
        """
        async with self._lock:
            if time.monotonic() - self._asked_at > self._service.settings.probe_seconds:
                self._error = await self._ask()
                self._asked_at = time.monotonic()
        if self._error is not None:
            raise self._error

    async def _ask(self) -> RequestError | None:
        request = Request("", SamplingParams(max_tokens=1, temperature=0.0))
        seconds, room = self._service.settings.probe_seconds, self._service.room
        n_steps = room.n_steps
        try:
            job = Job(request=request, owner=_PROBE, max_seconds=seconds)
            ticket = await room.submit(job)
            await ticket.finished()
        except RequestError as error:
            is_late = error.code in ("timeout", "queue_timeout")
            # No illness is a full queue, nor the end of the server, which probes must not hasten,
            # nor an engine that steps for others meanwhile.
            is_ending = error.code in ("draining", "shutting_down")
            if error.status == 429 or is_ending or (is_late and room.n_steps > n_steps):
                return None
            return RequestError(_SILENT, status=503, code="no_token", retry_after=seconds)
        return None


def health_router(service: Service) -> APIRouter:
    """Return the routes; `/health` and `/ready` need no key."""
    router = APIRouter()
    probe = _Probe(service)

    @router.get("/health", response_model=None)
    @router.get("/v1/health", response_model=None)
    async def health(request: HTTPRequest) -> Response:
        """Whether the process and its engine live; with `deep=1`, whether it writes a token."""
        if not service.room.is_alive:
            raise RequestError(_DOWN, status=503, code="engine_dead")
        if request.query_params.get("deep") in ("1", "true"):
            await probe.ask()
        return JSONResponse({"status": "ok"})

    @router.get("/ready", response_model=None)
    async def ready() -> Response:
        """Whether a request would be taken now."""
        if not service.room.is_ready:
            raise RequestError(_UNREADY, status=503, code="not_ready", retry_after=1.0)
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """The server's numbers, for Prometheus."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    @router.get("/version", response_model=None)
    async def show_version() -> Response:
        """Which version answers."""
        return JSONResponse({"version": package_version()})

    return router


_SILENT = "the engine did not write a token in time"
_DOWN = "the engine is down"
_UNREADY = "the server takes no requests now: it is full, ends, or its engine is down"
