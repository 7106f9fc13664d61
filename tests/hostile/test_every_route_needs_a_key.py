"""The routes that there are, each with no key, a wrong one and the right one."""

import re

import pytest
from starlette.routing import Route

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.access import KeyRing
from receptance.serving.app import ServerApp, create_app
from receptance.serving.perimeter.bodies import RAW_PATHS
from receptance.serving.routes import routers
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.perimeter.asgi import call

KEY = "anna-0123456789abcdef"
OPEN = {"/", "/health", "/v1/health", "/ready"}


@pytest.fixture(scope="module")
def app() -> ServerApp:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, 8, tokenizer.vocab_size), tokenizer)
    return create_app(lm, Settings(), keys=KeyRing([f"anna:{KEY}"]))


def status(app: ServerApp, method: str, path: str, key: str | None) -> int:
    kind = "application/octet-stream" if path in RAW_PATHS else "application/json"
    headers = [("content-type", kind)]
    if key is not None:
        headers.append(("authorization", f"Bearer {key}"))
    return call(app, method, path, headers=headers, body=b"" if method == "GET" else b"[]").status


def test_only_the_open_paths_are_read_without_a_key(app):
    routes = [each for router in routers(app.service) for each in router.routes]
    assert len(routes) > 10
    for route in routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{.*?\}", "anything", route.path)
        for method in sorted(route.methods or ()):
            is_open = method in ("GET", "HEAD") and (path in OPEN or path.startswith("/static/"))
            for key in (None, "wrong-0123456789abcdef"):
                assert (status(app, method, path, key) == 401) == (not is_open), (method, path)
            assert status(app, method, path, KEY) != 401, (method, path)


def test_what_the_framework_brings_along_needs_a_key_too(app):
    for path in ("/openapi.json", "/docs", "/redoc", "/metrics", "/v1/models/../models"):
        assert status(app, "GET", path, None) in (401, 404)
        assert call(app, "GET", path).json()["error"]["code"] != ""
