"""The endpoints: HTTP on one side, the engine room on the other, and nothing computed between."""

from fastapi import APIRouter

from receptance.serving.routes.chat_completions import chat_router
from receptance.serving.routes.completions import completions_router
from receptance.serving.routes.embeddings import embeddings_router
from receptance.serving.routes.health import health_router
from receptance.serving.routes.models import models_router
from receptance.serving.routes.refused import refused_router
from receptance.serving.routes.service import Service, fingerprint_of
from receptance.serving.routes.side_thread import SideThread
from receptance.serving.routes.states import states_router
from receptance.serving.routes.tokens import tokens_router
from receptance.serving.routes.turning_away import TurningAway

__all__ = ["Service", "SideThread", "TurningAway", "fingerprint_of", "routers"]


def routers(service: Service) -> list[APIRouter]:
    """Return the routers of all endpoints."""
    return [
        chat_router(service),
        completions_router(service),
        embeddings_router(service),
        models_router(service),
        states_router(service),
        tokens_router(service),
        health_router(service),
        refused_router(),
    ]
