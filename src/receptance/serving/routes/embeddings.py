"""`/v1/embeddings`: vectors that stand for texts.

The vector of a text is what the model's head sees at its last token (the last layer's output,
normalised), made one of length 1. A recurrent model has read the whole text by then, so nothing
is pooled. A model that was trained to write and not to compare gives vectors that are useful
within limits: measure them on your own texts.
"""

import time
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from receptance.inference import Request, SamplingParams
from receptance.serving.engine_room import Job, PromptRead, Ticket
from receptance.serving.off_loop import WrittenJSON, json_bytes, json_response, off_loop
from receptance.serving.protocol import (
    EmbeddingBody,
    embedding_object,
    require_possible_embedding,
    unit_vector,
)
from receptance.serving.routes.completions import tokens_of
from receptance.serving.routes.leaving import begun, unless_left
from receptance.serving.routes.read_once import ReadOnceRoute
from receptance.serving.routes.service import Service, owner_of
from receptance.serving.routes.writing import leave_all

_AT_ONCE = 8
"""Texts of one request that are in the engine's hands: others get their turns in between."""


def embeddings_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(route_class=ReadOnceRoute)

    @router.post("/v1/embeddings", response_model=None)
    async def create_embeddings(body: EmbeddingBody, request: HTTPRequest) -> Response:
        """Return vectors that stand for texts."""
        work = _begin(service, body, owner_of(request))
        tickets = await begun(request, work, leave=leave_all, settings=service.settings)
        embedding = _embed(service, body, tickets)
        return await unless_left(request, embedding, lambda: leave_all(tickets))

    return router


async def _begin(service: Service, body: EmbeddingBody, owner: str) -> list[Ticket]:
    """Check a request, and let the engine read its texts, all of them or none."""
    arrived = time.monotonic()
    service.require_served(body, body.model)
    require_possible_embedding(body, service.settings, service.lm.model.config.n_embd)
    names = [f"input[{i}]" for i in range(len(body.input))]
    prompts = await tokens_of(service, body.input, names)
    params = SamplingParams(max_tokens=0)
    jobs = [
        Job(
            request=Request(prompt, params, wants_features=True),
            owner=owner,
            arrived=arrived,
            param=name,
        )
        for name, prompt in zip(names, prompts, strict=True)
    ]
    return await service.room.submit_series(jobs, at_once=_AT_ONCE)


async def _embed(service: Service, body: EmbeddingBody, tickets: list[Ticket]) -> Response:
    reads = [await ticket.prompt() for ticket in tickets]
    for ticket in tickets:
        await ticket.finished()
    size = len(reads) * service.lm.model.config.n_embd
    data = await off_loop(size, partial(_objects, body, reads))
    n_tokens = sum(read.n_tokens for read in reads)
    answer = {
        "object": "list",
        "data": data,
        "model": service.envelope("embd", body.model).model,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }
    return await json_response(0, answer)


def _objects(body: EmbeddingBody, reads: list[PromptRead]) -> list[WrittenJSON]:
    """Return what is told of each text; a vector has thousands of numbers, written in blocks."""
    data: list[WrittenJSON] = []
    for index, read in enumerate(reads):
        assert read.features is not None
        vector = unit_vector(read.features.tolist(), body.dimensions)
        told = embedding_object(index, vector, body.encoding_format or "float")
        data.append(WrittenJSON(json_bytes(told)))
    return data
