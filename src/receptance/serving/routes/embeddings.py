"""`/v1/embeddings`: vectors that stand for texts.

The vector of a text is what the model's head sees at its last token (the last layer's output,
normalised), made one of length 1. A recurrent model has read the whole text by then, so nothing
is pooled. A model that was trained to write and not to compare gives vectors that are useful
within limits: measure them on your own texts.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from receptance.inference import Request, SamplingParams
from receptance.serving.engine_room import Job, PromptRead, Ticket
from receptance.serving.off_loop import json_response, off_loop
from receptance.serving.protocol import (
    EmbeddingBody,
    embedding_object,
    require_possible_embedding,
    unit_vector,
)
from receptance.serving.routes.completions import tokens_of
from receptance.serving.routes.leaving import unless_left
from receptance.serving.routes.read_once import ReadOnceRoute
from receptance.serving.routes.service import Service, owner_of
from receptance.serving.routes.writing import leave_all

_AT_ONCE = 8
"""Texts of one request that are in the engine's hands: others get their turns in between."""


@dataclass(frozen=True)
class _Reading:
    """Texts that are read for their vectors."""

    service: Service
    owner: str
    tickets: list[Ticket]
    """Of the texts that were begun."""

    async def read(self, prompts: list[list[int]]) -> list[PromptRead]:
        """Return what the engine says of each prompt, in order.

        Raises:
            RequestError: If one is refused or fails; then none goes on.
        """
        turns = asyncio.Semaphore(min(_AT_ONCE, self.service.settings.max_sequences))

        async def read_one(number: int, prompt: list[int]) -> PromptRead:
            async with turns:
                request = Request(prompt, SamplingParams(max_tokens=0), wants_features=True)
                job = Job(request=request, owner=self.owner, param=f"input[{number}]")
                ticket = await self.service.room.submit(job)
                self.tickets.append(ticket)
                read = await ticket.prompt()
                await ticket.finished()
                return read

        readers = [asyncio.ensure_future(read_one(*each)) for each in enumerate(prompts)]
        try:
            return list(await asyncio.gather(*readers))
        finally:
            for reader in readers:
                reader.cancel()


def embeddings_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(route_class=ReadOnceRoute)

    @router.post("/v1/embeddings", response_model=None)
    async def create_embeddings(body: EmbeddingBody, request: HTTPRequest) -> Response:
        """Return vectors that stand for texts."""
        service.require_served(body, body.model)
        n_embd = service.lm.model.config.n_embd
        require_possible_embedding(body, service.settings, n_embd)
        prompts = [
            await tokens_of(service, each, f"input[{i}]") for i, each in enumerate(body.input)
        ]
        reading = _Reading(service, owner_of(request), [])
        work = _embed(service, body, reading, prompts)
        return await unless_left(request, work, lambda: leave_all(reading.tickets))

    return router


async def _embed(
    service: Service, body: EmbeddingBody, reading: _Reading, prompts: list[list[int]]
) -> Response:
    reads = await reading.read(prompts)
    size = len(reads) * service.lm.model.config.n_embd
    data = await off_loop(size, partial(_objects, body, reads))
    n_tokens = sum(read.n_tokens for read in reads)
    answer = {
        "object": "list",
        "data": data,
        "model": service.envelope("embd", body.model).model,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }
    return await json_response(size, answer)


def _objects(body: EmbeddingBody, reads: list[PromptRead]) -> list[dict[str, Any]]:
    """Return what is told of each text."""
    data: list[dict[str, Any]] = []
    for index, read in enumerate(reads):
        assert read.features is not None
        vector = unit_vector(read.features.tolist(), body.dimensions)
        data.append(embedding_object(index, vector, body.encoding_format or "float"))
    return data
